//! The pods' network: a bridge with an address for each sandbox, and rules for what may
//! pass it.
//!
//! As root the bridge is one of the machine's links, so that the machine and its pods
//! reach each other directly. Without root it lies in the zygote's own network, where we
//! are allowed to make it, and the node comes and goes through sockets made there.
//!
//! Each pod is alone on its cable, and everybody else is behind the gateway: what one pod
//! sends another passes the same [`rules`] as everything else.

mod carrier;
mod doors;
mod firewall;
mod forwarding;
mod links;
mod names;
mod owner;
mod policy;
mod rules;
mod services;
mod standing;
mod subnet;
mod traffic;

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use doors::Doors;
use firewall::Firewall;
use links::{Guard, Links};
pub(crate) use names::DOMAIN;
use names::Names;
use policy::Policies;
use rules::{Egress, Place};
use sha2::{Digest as _, Sha256};
pub(crate) use standing::Standing;
use subnet::Subnet;
pub(crate) use traffic::Traffic;

use crate::keeper::message::Address;
use crate::sandbox::Zygote;

/// Sandboxes that fit into the network.
pub(crate) const MOST_SLOTS: u16 = (1 << 14) - 2;

/// The bridge, its rules, and whoever is connected to it.
pub(crate) struct Network {
    links: Links,
    bridge: u32,
    prefix: String,
    subnet: Subnet,
    zygote: Option<Arc<Zygote>>,
    /// Ways from the machine to pods, where it has none of its own.
    doors: Option<Doors>,
    agent_ports: BTreeSet<u16>,
    firewall: Option<Firewall>,
    place: Place,
    names: Arc<Names>,
    /// Pods reach each other through the rules, not over the bridge.
    routed: bool,
    guard: Guard,
    standing: Vec<Standing>,
    /// The bridge was there before, with pods behind it and rules for them.
    found: bool,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    carrying: Mutex<Option<tokio::net::TcpListener>>,
    /// Keeps other nodes from clearing the bridge away.
    _owned: Option<std::os::unix::net::UnixListener>,
}

/// What the rules of a node are called whose links begin like this.
fn table_of(prefix: &str) -> String {
    format!("sandlot-{}", prefix.trim_start_matches("sl"))
}

/// Whether a link is the bridge of some node.
fn is_bridge(link: &str) -> bool {
    link.strip_prefix("sl")
        .and_then(|rest| rest.strip_suffix("-br"))
        .is_some_and(|middle| middle.len() == 4 && u16::from_str_radix(middle, 16).is_ok())
}

/// A socket in the network where the pods' bridge is.
async fn socket(
    zygote: Option<&Zygote>,
    family: i32,
    kind: i32,
    protocol: i32,
) -> io::Result<OwnedFd> {
    if let Some(zygote) = zygote {
        return zygote.socket(family, kind, protocol).await;
    }
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let made = unsafe { libc::socket(family, kind, protocol) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Connects in the network where the pods' bridge is.
async fn dial(
    zygote: Option<&Zygote>,
    ip: Ipv4Addr,
    port: u16,
) -> io::Result<tokio::net::TcpStream> {
    let made = socket(zygote, libc::AF_INET, libc::SOCK_STREAM, 0).await?;
    let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(made));
    socket.connect((ip, port).into()).await
}

impl Network {
    /// Makes the bridge, or finds the one from before.
    pub(crate) async fn open(
        data_dir: &Path,
        zygote: &Arc<Zygote>,
        egress: bool,
        agent_ports: &[u16],
    ) -> io::Result<Network> {
        let rootless = !nix::unistd::geteuid().is_root();
        let inside = rootless.then(|| zygote.clone());
        let (raw, route, filter) = (libc::SOCK_RAW, libc::NETLINK_ROUTE, libc::NETLINK_NETFILTER);
        let links = Links::new(socket(inside.as_deref(), libc::AF_NETLINK, raw, route).await?);
        // Several nodes may share a machine; each has its own names.
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let prefix = format!("sl{:02x}{:02x}", digest[0], digest[1]);
        let name = format!("{prefix}-br");
        // Before there is a bridge that others may find without an owner. A node that is
        // just ending may still have it.
        let owned = match rootless {
            true => None,
            false => owner::claim(&prefix).ok(),
        };
        let guard = Guard::of_machine();
        let reserved = inside.as_ref().and_then(|_| doors::reserve(digest[2]));
        let seed = reserved.as_ref().map_or(digest[2], |(seed, _)| *seed);
        let known = links.find(&name).await?;
        let (bridge, subnet) = match known {
            Some(bridge) => (bridge, links.subnet_of(bridge).await?),
            None => links.bridge(&name, seed, guard).await?,
        };
        if rootless && let Some(lo) = links.find("lo").await? {
            links.set_up(lo).await?;
        }
        let mut standing = Vec::new();
        let firewall = socket(inside.as_deref(), libc::AF_NETLINK, raw, filter).await;
        let firewall = firewall.map(Firewall::new);
        let routed = standing::tried(&mut standing, "Routing", || match rootless {
            // The zygote has made its network a router before the first bridge.
            true => Ok(()),
            false => forwarding::for_bridge(&name),
        });
        let names = Names::new(subnet.all(), egress);
        let in_place = async |kind| socket(inside.as_deref(), libc::AF_INET, kind, 0).await;
        let (packets, streams, resolver) = names::sockets(in_place, subnet.gateway()).await?;
        let (way, carrying) = way_out(&mut standing, egress, routed, &inside, subnet).await;
        let mut network = Network {
            place: Place {
                table: table_of(&prefix),
                bridge: name,
                pods: subnet.all(),
                gateway: subnet.gateway(),
                egress: way,
                shown: rootless,
                resolver,
            },
            links,
            bridge,
            prefix,
            subnet,
            doors: inside.clone().map(|zygote| Doors::new(zygote, reserved)),
            agent_ports: agent_ports.iter().copied().collect(),
            zygote: inside,
            firewall: None,
            names: names.clone(),
            routed,
            guard,
            standing,
            found: known.is_some(),
            tasks: Mutex::new(vec![
                tokio::spawn(names.clone().serve_packets(packets)),
                tokio::spawn(names.serve_streams(streams)),
            ]),
            carrying: Mutex::new(carrying),
            _owned: owned,
        };
        network.close_in(firewall).await;
        network.links.set_up(bridge).await?;
        if !rootless {
            owner::sweep(&network.links, network.firewall.as_ref()).await;
        }
        Ok(network)
    }

    /// Puts the rules in place before the bridge is up, or finds that there can be none.
    async fn close_in(&mut self, firewall: io::Result<Firewall>) {
        let closed = match firewall {
            Err(error) => Err(error),
            // The rules from before hold until everything that they must say is known.
            Ok(firewall) if self.found => Ok(firewall),
            Ok(firewall) => {
                let table = rules::table(&self.place, &[], &Policies::none());
                firewall.replace(&table).await.map(|()| firewall)
            }
        };
        match closed {
            Ok(firewall) => {
                self.firewall = Some(firewall);
                self.standing.push(Standing::firewall());
            }
            Err(error) => {
                self.routed = false;
                self.standing.push(Standing::no_firewall(&error));
                if self.place.egress != Egress::Closed {
                    self.place.egress = Egress::Closed;
                    self.standing
                        .retain(|one| one.condition != standing::EGRESS);
                    self.standing.push(Standing::no_egress(&error));
                }
            }
        }
    }

    /// The address of a sandbox.
    pub(crate) fn address(&self, slot: u16) -> Address {
        let address = self.subnet.address(slot, self.routed);
        Address {
            shown: self.doors.as_ref().map(|_| doors::shown(address.ip)),
            ..address
        }
    }

    /// The address by which this machine knows a sandbox's pod.
    pub(crate) fn shown(&self, slot: u16) -> Ipv4Addr {
        let address = self.address(slot);
        address.shown.unwrap_or(address.ip)
    }

    /// Whether sandboxes of a node before this one are on this network.
    pub(crate) fn reaches_earlier(&self) -> bool {
        self.zygote.is_none() || self.found
    }

    /// The machine's own address on the bridge.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.subnet.gateway()
    }

    /// What this network can do and what it cannot.
    pub(crate) fn standing(&self) -> &[Standing] {
        &self.standing
    }

    fn link(&self, slot: u16) -> String {
        format!("{}-{slot}", self.prefix)
    }

    /// Gives the network namespace of a keeper an `eth0` on the bridge.
    pub(crate) async fn connect(&self, slot: u16, keeper: i32) -> io::Result<()> {
        let keeper = u32::try_from(keeper).map_err(io::Error::other)?;
        let name = self.link(slot);
        self.links.pair(&name, self.bridge, keeper).await?;
        if self.routed {
            self.links.guard(&name, self.guard).await?;
        }
        Ok(())
    }

    /// Takes a sandbox off the bridge. The kernel does that itself when the last process
    /// of a namespace has gone, but only after a while.
    pub(crate) async fn disconnect(&self, slot: u16) {
        if let Ok(Some(link)) = self.links.find(&self.link(slot)).await {
            // Gone in between is just as well.
            let _ = self.links.remove(link).await;
        }
    }

    /// Connects to a port of a pod.
    pub(crate) async fn dial(&self, ip: Ipv4Addr, port: u16) -> io::Result<tokio::net::TcpStream> {
        let ip = match &self.doors {
            Some(_) => doors::inside(ip),
            None => ip,
        };
        dial(self.zygote.as_deref(), ip, port).await
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<tokio::task::JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bridge and its rules away.
    pub(crate) async fn close(&self) {
        self.end_tasks();
        // A node that starts here again finds what is left and takes it over.
        let _ = self.links.remove(self.bridge).await;
        if let Some(firewall) = &self.firewall
            && let Err(error) = firewall.remove(&self.place.table).await
        {
            tracing::warn!(%error, table = self.place.table, "the pods' rules are left behind");
        }
        match &self.zygote {
            None => forwarding::close(),
            Some(zygote) => zygote.release_network(),
        }
    }

    fn end_tasks(&self) {
        for task in self.tasks().drain(..) {
            task.abort();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

/// How pods will reach the world, and where their connections come if the node carries them.
async fn way_out(
    standing: &mut Vec<Standing>,
    wanted: bool,
    routed: bool,
    inside: &Option<Arc<Zygote>>,
    subnet: Subnet,
) -> (Egress, Option<tokio::net::TcpListener>) {
    if !wanted {
        standing.push(Standing::closed_egress());
        return (Egress::Closed, None);
    }
    let translated = match inside {
        None if routed => forwarding::open(),
        None => Err(io::Error::other("the bridge cannot pass packets on")),
        Some(_) => Err(io::Error::other("only root may translate addresses")),
    };
    let why = match translated {
        Ok(()) => {
            standing.push(Standing::translated());
            return (Egress::Translated, None);
        }
        Err(why) => why,
    };
    let listener = async {
        let made = socket(inside.as_deref(), libc::AF_INET, libc::SOCK_STREAM, 0).await?;
        let socket = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(made));
        socket.bind((subnet.gateway(), 0).into())?;
        let listener = socket.listen(1024)?;
        Ok::<_, io::Error>((listener.local_addr()?.port(), listener))
    };
    match listener.await {
        Ok((port, listener)) => {
            standing.push(Standing::carried(&why));
            (Egress::Carried(port), Some(listener))
        }
        Err(error) => {
            standing.push(Standing::no_egress(&error));
            (Egress::Closed, None)
        }
    }
}
