//! The pods' network: a bridge with an address for each sandbox.
//!
//! As root the bridge is one of the machine's links, so that the machine and its pods
//! reach each other directly. Without root it lies in the zygote's own network, where we
//! are allowed to make it, and the node comes and goes through sockets made there.

mod subnet;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use sha2::{Digest as _, Sha256};
use subnet::Subnet;

use crate::keeper::message::Address;
use crate::sandbox::Zygote;

/// Sandboxes that fit into the network.
pub(crate) const MOST_SLOTS: u16 = (1 << 14) - 2;

/// The bridge and whoever is connected to it.
pub(crate) struct Network {
    links: Handle,
    bridge: u32,
    prefix: String,
    subnet: Subnet,
    zygote: Option<Arc<Zygote>>,
    task: tokio::task::JoinHandle<()>,
}

impl Network {
    /// Makes the bridge, or finds the one from before.
    pub(crate) async fn open(data_dir: &Path, zygote: &Arc<Zygote>) -> io::Result<Network> {
        let (links, task) = if nix::unistd::geteuid().is_root() {
            let (connection, links, _) = rtnetlink::new_connection()?;
            (links, tokio::spawn(connection))
        } else {
            inside(zygote).await?
        };
        let rootless = !nix::unistd::geteuid().is_root();
        // Several nodes may share a machine; each has its own names.
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let prefix = format!("sl{:02x}{:02x}", digest[0], digest[1]);
        let name = format!("{prefix}-br");
        let (bridge, subnet) = match find(&links, &name).await? {
            Some(bridge) => (bridge, existing(&links, bridge).await?),
            None => make(&links, &name, digest[2]).await?,
        };
        if rootless && let Some(lo) = find(&links, "lo").await? {
            links
                .link()
                .change(LinkUnspec::new_with_index(lo).up().build())
                .execute()
                .await
                .map_err(failed)?;
        }
        let zygote = rootless.then(|| zygote.clone());
        Ok(Network {
            links,
            bridge,
            prefix,
            subnet,
            zygote,
            task,
        })
    }

    /// The address of a sandbox.
    pub(crate) fn address(&self, slot: u16) -> Address {
        self.subnet.address(slot)
    }

    /// The machine's own address on the bridge.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.subnet.gateway()
    }

    fn link(&self, slot: u16) -> String {
        format!("{}-{slot}", self.prefix)
    }

    /// Gives the network namespace of a keeper an `eth0` on the bridge.
    pub(crate) async fn connect(&self, slot: u16, keeper: i32) -> io::Result<()> {
        let keeper = u32::try_from(keeper).map_err(io::Error::other)?;
        let inside = LinkUnspec::new_with_name("eth0")
            .setns_by_pid(keeper)
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(self.link(slot))
            .controller(self.bridge)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inside)))
            .build();
        self.links.link().add(pair).execute().await.map_err(failed)
    }

    /// Takes a sandbox off the bridge. The kernel does that itself when the last process
    /// of a namespace has gone, but only after a while.
    pub(crate) async fn disconnect(&self, slot: u16) {
        if let Ok(Some(link)) = find(&self.links, &self.link(slot)).await {
            // Gone in between is just as well.
            let _ = self.links.link().del(link).execute().await;
        }
    }

    /// Connects to a port of a pod.
    pub(crate) async fn dial(&self, ip: Ipv4Addr, port: u16) -> io::Result<tokio::net::TcpStream> {
        let socket = match &self.zygote {
            None => tokio::net::TcpSocket::new_v4()?,
            Some(zygote) => {
                let made = zygote.socket(libc::AF_INET, libc::SOCK_STREAM, 0).await?;
                tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(made))
            }
        };
        socket.connect((ip, port).into()).await
    }

    /// Takes the bridge away.
    pub(crate) async fn close(&self) {
        let _ = self.links.link().del(self.bridge).execute().await;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Links of the network the zygote lives in.
async fn inside(zygote: &Zygote) -> io::Result<(Handle, tokio::task::JoinHandle<()>)> {
    use rtnetlink::sys::TokioSocket;
    use std::os::fd::{FromRawFd as _, IntoRawFd as _};
    let socket = zygote
        .socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)
        .await?;
    // SAFETY: the descriptor is ours and given away whole.
    let socket = unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) };
    let (connection, links, _) = rtnetlink::from_socket(socket);
    Ok((links, tokio::spawn(connection)))
}

async fn find(links: &Handle, name: &str) -> io::Result<Option<u32>> {
    match links
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

async fn addresses(links: &Handle) -> io::Result<Vec<(u32, Ipv4Addr, u8)>> {
    use rtnetlink::packet_route::address::AddressAttribute;
    let mut found = Vec::new();
    let mut listing = links.address().get().execute();
    while let Some(address) = listing.try_next().await.map_err(failed)? {
        for attribute in &address.attributes {
            if let AddressAttribute::Address(IpAddr::V4(ip)) = attribute {
                found.push((address.header.index, *ip, address.header.prefix_len));
            }
        }
    }
    Ok(found)
}

async fn existing(links: &Handle, bridge: u32) -> io::Result<Subnet> {
    let found = addresses(links)
        .await?
        .into_iter()
        .find(|(link, _, _)| *link == bridge);
    found
        .map(|(_, ip, _)| Subnet::of_gateway(ip))
        .ok_or_else(|| {
            io::Error::other("the pods' bridge has lost its address; remove it with `ip link del`")
        })
}

/// Networks the machine already knows a way to.
async fn taken(links: &Handle) -> io::Result<Vec<(Ipv4Addr, u8)>> {
    use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
    let mut taken: Vec<_> = addresses(links)
        .await?
        .into_iter()
        .map(|(_, ip, prefix)| (ip, prefix))
        .collect();
    let mut routes = links
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute();
    while let Some(route) = routes.try_next().await.map_err(failed)? {
        for attribute in &route.attributes {
            if let RouteAttribute::Destination(RouteAddress::Inet(ip)) = attribute {
                taken.push((*ip, route.header.destination_prefix_length));
            }
        }
    }
    Ok(taken)
}

async fn make(links: &Handle, name: &str, seed: u8) -> io::Result<(u32, Subnet)> {
    let subnet = Subnet::choose(seed, &taken(links).await?)
        .ok_or_else(|| io::Error::other("no part of 10.64.0.0/10 is free for the pods' network"))?;
    links
        .link()
        .add(LinkBridge::new(name).build())
        .execute()
        .await
        .map_err(failed)?;
    let bridge = find(links, name)
        .await?
        .ok_or_else(|| io::Error::other("the new bridge is not there"))?;
    links
        .address()
        .add(bridge, IpAddr::V4(subnet.gateway()), Subnet::PREFIX)
        .execute()
        .await
        .map_err(failed)?;
    Ok((bridge, subnet))
}
