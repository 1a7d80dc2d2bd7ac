//! Where the pods' network is apart the machine has no way into it. So each pod has an address
//! of the machine's own 127.0.0.0/8 besides, on whose ports the node waits and carries on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

use super::firewall::{Net, Protocol};
use super::subnet::Subnet;
use super::{datagrams, passage};
use crate::sandbox::Zygote;

/// Every address by which a machine knows pods.
pub(super) const ALL_SHOWN: Net = Net::new(Ipv4Addr::new(127, 64, 0, 0), 11);

/// The address by which the machine knows a pod that has `inside` in its network.
pub(super) fn shown(inside: Ipv4Addr) -> Ipv4Addr {
    let [_, b, c, d] = inside.octets();
    Ipv4Addr::new(127, b, c, d)
}

/// The pod's address in its network; one that is none of ours stays what it is.
pub(super) fn inside(shown: Ipv4Addr) -> Ipv4Addr {
    let [_, b, c, d] = shown.octets();
    match ALL_SHOWN.holds(shown) {
        true => Ipv4Addr::new(10, b, c, d),
        false => shown,
    }
}

/// Takes a part of 127.0.0.0/8 that no other node of this machine has, starting the search
/// at `seed`: the seed that leads to it, and what keeps others away while it is kept.
pub(super) fn reserve(seed: u8) -> Option<(u8, std::net::TcpListener)> {
    const SIGN: u16 = 50_998;
    (0..=u8::MAX).find_map(|step| {
        let seed = seed.wrapping_add(step);
        let gateway = Subnet::choose(seed, &[])?.gateway();
        let sign = std::net::TcpListener::bind((shown(gateway), SIGN)).ok()?;
        Some((seed, sign))
    })
}

/// The open ports of all pods; closed when this is dropped.
pub(super) struct Doors {
    zygote: Arc<Zygote>,
    open: Mutex<BTreeMap<Ipv4Addr, Vec<JoinHandle<()>>>>,
    /// Those that were told to close, until their ports are known to be free.
    closing: Mutex<BTreeMap<Ipv4Addr, Vec<JoinHandle<()>>>>,
    /// Keeps other nodes from the same addresses.
    _sign: Option<std::net::TcpListener>,
}

impl Doors {
    pub(super) fn new(zygote: Arc<Zygote>, reserved: Option<(u8, std::net::TcpListener)>) -> Doors {
        Doors {
            zygote,
            open: Mutex::default(),
            closing: Mutex::default(),
            _sign: reserved.map(|(_, sign)| sign),
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Vec<JoinHandle<()>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closing(&self) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Vec<JoinHandle<()>>>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on these ports of a pod; the ports for which that cannot be, and why.
    pub(super) fn open_for(
        &self,
        pod: Ipv4Addr,
        ports: &BTreeSet<(Protocol, u16)>,
    ) -> Vec<((Protocol, u16), io::Error)> {
        let mut open = self.open();
        if open.contains_key(&pod) {
            return Vec::new();
        }
        let (mut waiting, mut closed) = (Vec::new(), Vec::new());
        for (protocol, port) in ports {
            match self.carry(*protocol, pod, *port) {
                Ok(task) => waiting.push(task),
                Err(error) => closed.push(((*protocol, *port), error)),
            }
        }
        open.insert(pod, waiting);
        closed
    }

    /// Waits on a port of a pod and carries what comes to it.
    fn carry(&self, protocol: Protocol, pod: Ipv4Addr, port: u16) -> io::Result<JoinHandle<()>> {
        let zygote = self.zygote.clone();
        let task = match protocol {
            Protocol::Tcp => {
                let listener = passage::listen(shown(pod), port)?;
                tokio::spawn(passage::carry(listener, move || {
                    let zygote = zygote.clone();
                    async move { super::dial(Some(&zygote), pod, port).await }
                }))
            }
            Protocol::Udp => {
                let socket = datagrams::listen(shown(pod), port)?;
                tokio::spawn(datagrams::carry(socket, move || {
                    let zygote = zygote.clone();
                    async move { super::dial_packets(Some(&zygote), pod, port).await }
                }))
            }
            Protocol::Sctp => {
                return Err(passage::no_sctp());
            }
        };
        Ok(task)
    }

    /// Nobody is behind this address any more.
    pub(super) fn close_for(&self, pod: Ipv4Addr) {
        let Some(tasks) = self.open().remove(&pod) else {
            return;
        };
        tasks.iter().for_each(JoinHandle::abort);
        self.closing().entry(pod).or_default().extend(tasks);
    }

    /// Waits until what was closed for this address is, so that its ports can be opened again.
    pub(super) async fn closed_for(&self, pod: Ipv4Addr) {
        let tasks = self.closing().remove(&pod);
        for task in tasks.into_iter().flatten() {
            // It was told to end, and that is how it does.
            let _ = task.await;
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.open().values().flatten().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_nodes_never_show_their_pods_by_the_same_addresses() {
        let (first, _kept) = reserve(7).unwrap();
        let (second, _kept_too) = reserve(7).unwrap();
        let part = |seed| Subnet::choose(seed, &[]).unwrap();
        assert_ne!(part(first), part(second));
    }

    #[test]
    fn every_pod_s_address_has_one_on_this_machine_and_back() {
        for pod in [Ipv4Addr::new(10, 64, 0, 2), Ipv4Addr::new(10, 95, 255, 254)] {
            assert!(shown(pod).is_loopback());
            assert_eq!(inside(shown(pod)), pod);
        }
        assert_eq!(inside(Ipv4Addr::LOCALHOST), Ipv4Addr::LOCALHOST);
        assert_eq!(inside(Ipv4Addr::new(1, 2, 3, 4)), Ipv4Addr::new(1, 2, 3, 4));
    }
}
