//! The links of the machine, or of the network that the zygote lives in.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::thread;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use tokio::{runtime, sync::oneshot};

use super::subnet::Subnet;
use super::ways::Way;

/// How it is made sure that what pods send each other passes the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The bridge itself asks the rules about every packet.
    Bridge,
    /// Links speak with the bridge's owner alone, who passes on what the rules allow.
    Isolation,
}

impl Guard {
    /// A bridge that can ask the rules would also change destinations by them, and then
    /// isolated links could not be reached by a service's address.
    pub(super) fn of_machine() -> Guard {
        match std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
            true => Guard::Bridge,
            false => Guard::Isolation,
        }
    }
}

/// A conversation with the kernel about links; over when this is dropped.
pub(super) struct Links {
    handle: Handle,
    /// Dropped with this, which ends the thread that speaks.
    _over: oneshot::Sender<()>,
}

fn failed(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// A way in the kernel's words.
fn message(way: Way) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(way.to, 32)
        .output_interface(way.bridge)
        .pref_source(way.from)
        .scope(RouteScope::Link)
        .build()
}

/// Carries messages to the kernel and answers back until it is over.
fn converse(
    socket: OwnedFd,
    begun: oneshot::Sender<io::Result<Handle>>,
    is_over: oneshot::Receiver<()>,
) {
    use rtnetlink::sys::TokioSocket;
    let runtime = match runtime::Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Who does not wait any more need not know.
            let _ = begun.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        // SAFETY: the descriptor is ours and given away whole.
        let socket = unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) };
        let (connection, handle, _) = rtnetlink::from_socket(socket);
        let _ = begun.send(Ok(handle));
        tokio::select! {
            () = connection => {}
            _ = is_over => {}
        }
    });
}

impl Links {
    /// Speaks through a routing socket, which must not block.
    ///
    /// From a thread of its own: the kernel does what a message asks for before it has taken the
    /// message, and to make or remove a link may take it ten milliseconds.
    pub(super) async fn new(socket: OwnedFd) -> io::Result<Links> {
        let (over, is_over) = oneshot::channel();
        let (begun, handle) = oneshot::channel();
        thread::Builder::new()
            .name("links".into())
            .spawn(move || converse(socket, begun, is_over))?;
        let handle = handle.await.map_err(io::Error::other)??;
        Ok(Links {
            handle,
            _over: over,
        })
    }

    /// The number of the link with this name.
    pub(super) async fn find(&self, name: &str) -> io::Result<Option<u32>> {
        match self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await
        {
            Ok(found) => Ok(found.map(|link| link.header.index)),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ENODEV => {
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) async fn set_up(&self, link: u32) -> io::Result<()> {
        let wanted = LinkUnspec::new_with_index(link).up().build();
        let set = self.handle.link().change(wanted).execute();
        set.await.map_err(failed)
    }

    /// Makes a pair of links: `name` on the bridge here, `eth0` in the network of a process.
    pub(super) async fn pair(
        &self,
        name: &str,
        bridge: u32,
        process: u32,
        hardware: [u8; 6],
    ) -> io::Result<()> {
        let inside = LinkUnspec::new_with_name("eth0")
            .address(hardware.to_vec())
            .setns_by_pid(process)
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name.to_owned())
            .controller(bridge)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inside)))
            .build();
        let made = self.handle.link().add(pair).execute();
        made.await.map_err(failed)
    }

    /// Makes what a link on the bridge carries pass the rules.
    pub(super) async fn guard(&self, name: &str, guard: Guard) -> io::Result<()> {
        let Some(link) = self.find(name).await? else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let port = LinkBridgePort::new(link);
        let port = match guard {
            // A service may lead a pod back to itself.
            Guard::Bridge => port.hairpin(true),
            Guard::Isolation => port.isolated(true),
        };
        let set = self.handle.link().set_port(port.build()).execute();
        set.await.map_err(failed)
    }

    pub(super) async fn remove(&self, link: u32) -> io::Result<()> {
        self.handle.link().del(link).execute().await.map_err(failed)
    }

    pub(super) async fn addresses(&self) -> io::Result<Vec<(u32, Ipv4Addr, u8)>> {
        use rtnetlink::packet_route::address::AddressAttribute;
        let mut found = Vec::new();
        let mut listing = self.handle.address().get().execute();
        while let Some(address) = listing.try_next().await.map_err(failed)? {
            for attribute in &address.attributes {
                if let AddressAttribute::Address(IpAddr::V4(ip)) = attribute {
                    found.push((address.header.index, *ip, address.header.prefix_len));
                }
            }
        }
        Ok(found)
    }

    /// The subnet of a bridge from before.
    pub(super) async fn subnet_of(&self, bridge: u32) -> io::Result<Subnet> {
        let found = self
            .addresses()
            .await?
            .into_iter()
            .find(|(link, _, _)| *link == bridge);
        found
            .map(|(_, ip, _)| Subnet::of_gateway(ip))
            .ok_or_else(|| {
                io::Error::other(
                    "the pods' bridge has lost its address; remove it with `ip link del`",
                )
            })
    }

    /// Makes a way from this machine.
    pub(super) async fn open_way(&self, way: Way) -> io::Result<()> {
        let route = self.handle.route().add(message(way)).execute();
        route.await.map_err(failed)
    }

    /// Takes a way from this machine away; one that is not there is as good.
    pub(super) async fn close_way(&self, way: Way) -> io::Result<()> {
        match self.handle.route().del(message(way)).execute().await {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ESRCH => {
                Ok(())
            }
            done => done.map_err(failed),
        }
    }

    /// The services' addresses that a way over this bridge leads to.
    pub(super) async fn ways(&self, bridge: u32) -> io::Result<BTreeSet<Ipv4Addr>> {
        let routes = self.routes().await?;
        let ours = routes.into_iter().filter(|(to, prefix, over)| {
            *prefix == 32 && *over == Some(bridge) && super::rules::SERVICES.holds(*to)
        });
        Ok(ours.map(|(to, _, _)| to).collect())
    }

    /// Networks the machine already knows a way to.
    pub(super) async fn taken(&self) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let mut taken: Vec<_> = self
            .addresses()
            .await?
            .into_iter()
            .map(|(_, ip, prefix)| (ip, prefix))
            .collect();
        let routes = self.routes().await?;
        taken.extend(routes.into_iter().map(|(to, prefix, _)| (to, prefix)));
        Ok(taken)
    }

    /// All ways: to where, and over which link.
    async fn routes(&self) -> io::Result<Vec<(Ipv4Addr, u8, Option<u32>)>> {
        use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut listing = self.handle.route().get(all).execute();
        let mut found = Vec::new();
        while let Some(route) = listing.try_next().await.map_err(failed)? {
            let over = route
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RouteAttribute::Oif(link) => Some(*link),
                    _ => None,
                });
            for attribute in &route.attributes {
                if let RouteAttribute::Destination(RouteAddress::Inet(ip)) = attribute {
                    found.push((*ip, route.header.destination_prefix_length, over));
                }
            }
        }
        Ok(found)
    }

    /// Makes a bridge with an address.
    pub(super) async fn bridge(
        &self,
        name: &str,
        seed: u8,
        guard: Guard,
    ) -> io::Result<(u32, Subnet)> {
        let subnet = Subnet::choose(seed, &self.taken().await?).ok_or_else(|| {
            io::Error::other("no part of 10.64.0.0/11 is free for the pods' network")
        })?;
        let mut wanted = LinkBridge::new(name);
        if guard == Guard::Bridge {
            wanted = wanted.nf_call_iptables(true).nf_call_ip6tables(true);
        }
        self.handle
            .link()
            .add(wanted.build())
            .execute()
            .await
            .map_err(failed)?;
        let bridge = self
            .find(name)
            .await?
            .ok_or_else(|| io::Error::other("the new bridge is not there"))?;
        self.handle
            .address()
            .add(bridge, IpAddr::V4(subnet.gateway()), Subnet::PREFIX)
            .execute()
            .await
            .map_err(failed)?;
        Ok((bridge, subnet))
    }
}
