//! The pods' network: a bridge with an address for each sandbox, and rules for what may
//! pass it.
//!
//! As root the bridge is one of the machine's links, so that the machine and its pods
//! reach each other directly. Without root, and where the kernel has no rules for packets, it
//! lies apart, in the zygote's own network, and the node comes and goes through sockets made
//! there.
//!
//! Each pod is alone on its cable, which carries nothing but what comes from its own
//! addresses ([`cable`]), and everybody else is behind the gateway: what one pod sends
//! another passes the same [`rules`] as everything else. Where there can be no rules, nothing
//! is passed on at all: pods then reach neither each other nor this machine nor the world,
//! and only the node reaches them.

mod cable;
mod carrier;
mod datagrams;
mod doors;
mod firewall;
mod forwarding;
mod links;
mod names;
mod opening;
mod owner;
mod passage;
mod policy;
mod published;
mod rules;
mod services;
mod standing;
mod subnet;
mod traffic;
mod ways;

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use doors::Doors;
use firewall::Firewall;
pub(crate) use firewall::{rules_offered, sender_checks_offered};
use links::{Guard, Links};
pub(crate) use names::DOMAIN;
use names::Names;
pub use opening::PacketRules;
pub(crate) use opening::{Ground, Wanted};
use published::Published;
use rules::Place;
pub(crate) use standing::Standing;
use subnet::Subnet;
pub(crate) use traffic::Traffic;
use ways::Ways;

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
    /// Ports of this machine that lead to services.
    published: Published,
    /// The machine's own ways to services.
    ways: Ways,
    agent_ports: BTreeSet<u16>,
    firewall: Option<Firewall>,
    /// A pod's cable carries nothing but what comes from its own addresses.
    cables: bool,
    place: Place,
    names: Arc<Names>,
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

/// Takes all rules of a node away.
async fn take_away(firewall: &Firewall, table: &str, cables: bool) {
    if let Err(error) = firewall.remove(table).await {
        tracing::warn!(%error, table, "the pods' rules are left behind");
    }
    if cables && let Err(error) = firewall.unplug_all(table).await {
        tracing::warn!(%error, table, "the rules of pods' cables are left behind");
    }
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

/// The same for packets: a socket that speaks with this port alone.
async fn dial_packets(
    zygote: Option<&Zygote>,
    ip: Ipv4Addr,
    port: u16,
) -> io::Result<tokio::net::UdpSocket> {
    let made = socket(zygote, libc::AF_INET, libc::SOCK_DGRAM, 0).await?;
    let socket = tokio::net::UdpSocket::from_std(std::net::UdpSocket::from(made))?;
    socket.connect((ip, port)).await?;
    Ok(socket)
}

impl Network {
    /// The address of a sandbox.
    pub(crate) fn address(&self, slot: u16) -> Address {
        let address = self.subnet.address(slot);
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
        self.found
    }

    /// Whether the pods' network is not one of the machine's.
    pub(crate) fn is_apart(&self) -> bool {
        self.zygote.is_some()
    }

    /// Whether a pod that may make raw packets can write no sender on them but itself.
    pub(crate) fn checks_senders(&self) -> bool {
        self.cables
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
        let (name, address) = (self.link(slot), self.address(slot));
        let hardware = cable::hardware(address.ip);
        self.links
            .pair(&name, self.bridge, keeper, hardware)
            .await?;
        self.links.guard(&name, self.guard).await?;
        match &self.firewall {
            Some(firewall) if self.cables => {
                let chain = cable::of_pod(&name, &address);
                firewall.plug(&self.place.table, &chain).await
            }
            _ => Ok(()),
        }
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
        let (from, ip) = self.way_to(ip);
        dial(from, ip, port).await
    }

    /// A socket for packets to and from a port of a pod.
    async fn dial_packets(&self, ip: Ipv4Addr, port: u16) -> io::Result<tokio::net::UdpSocket> {
        let (from, ip) = self.way_to(ip);
        dial_packets(from, ip, port).await
    }

    /// In which network to be, and by which address somebody is reached there.
    fn way_to(&self, ip: Ipv4Addr) -> (Option<&Zygote>, Ipv4Addr) {
        let inside = doors::inside(ip);
        match &self.zygote {
            Some(zygote) if self.place.pods.holds(inside) => (Some(zygote), inside),
            // Somewhere else; also this machine's loopback, not the pods' network's.
            _ => (None, ip),
        }
    }

    /// Makes the machine's own ways lead to these services.
    async fn lead_to(&self, services: BTreeSet<Ipv4Addr>) -> io::Result<()> {
        let from = (self.bridge, self.subnet.gateway());
        self.ways.lead(&self.links, from, services).await
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<tokio::task::JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the bridge and its rules away.
    pub(crate) async fn close(&self) {
        self.end_tasks();
        // A node that starts here again finds what is left and takes it over.
        let _ = self.links.remove(self.bridge).await;
        if let Some(firewall) = &self.firewall {
            take_away(firewall, &self.place.table, self.cables).await;
        }
        match &self.zygote {
            None => forwarding::close(),
            Some(zygote) => zygote.release_network(),
        }
    }

    fn end_tasks(&self) {
        self.published.close();
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
