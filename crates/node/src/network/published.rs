//! Node ports: on this machine's loopback each leads to the endpoints of its service, one
//! after the other.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::net::{TcpStream, UdpSocket};
use tokio::task::AbortHandle;

use super::firewall::Protocol;
use super::services::NodePort;
use super::{Network, datagrams, passage};

/// The open ports; closed when this is dropped.
#[derive(Default)]
pub(super) struct Published {
    open: Mutex<BTreeMap<NodePort, Port>>,
}

struct Port {
    to: Arc<Endpoints>,
    task: AbortHandle,
}

/// Who answers behind a port.
#[derive(Default)]
struct Endpoints {
    all: Mutex<Vec<SocketAddrV4>>,
    turn: AtomicUsize,
}

impl Endpoints {
    fn all(&self) -> MutexGuard<'_, Vec<SocketAddrV4>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is.
    fn next(&self) -> io::Result<SocketAddrV4> {
        let all = self.all();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen = turn.checked_rem(all.len()).map(|nth| all[nth]);
        chosen.ok_or_else(|| io::Error::other("nobody is behind the service"))
    }
}

impl Published {
    fn open(&self) -> MutexGuard<'_, BTreeMap<NodePort, Port>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the ports be these; those that cannot be had, and why.
    pub(super) fn publish(
        &self,
        network: &Arc<Network>,
        wanted: &BTreeMap<NodePort, Vec<SocketAddrV4>>,
    ) -> Vec<(NodePort, io::Error)> {
        let mut open = self.open();
        open.retain(|port, held| {
            let stays = wanted.contains_key(port);
            if !stays {
                held.task.abort();
            }
            stays
        });
        let mut closed = Vec::new();
        for (port, endpoints) in wanted {
            if let Some(held) = open.get(port) {
                held.to.all().clone_from(endpoints);
                continue;
            }
            let to = Arc::new(Endpoints::default());
            to.all().clone_from(endpoints);
            match carry(*port, Arc::downgrade(network), to.clone()) {
                Ok(task) => drop(open.insert(*port, Port { to, task })),
                Err(error) => closed.push((*port, error)),
            }
        }
        closed
    }

    /// Closes all ports.
    pub(super) fn close(&self) {
        for (_, port) in std::mem::take(&mut *self.open()) {
            port.task.abort();
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens a port and carries what comes to it.
fn carry(
    (protocol, port): NodePort,
    network: Weak<Network>,
    to: Arc<Endpoints>,
) -> io::Result<AbortHandle> {
    let task = match protocol {
        Protocol::Tcp => {
            let listener = passage::listen(Ipv4Addr::LOCALHOST, port)?;
            let dial = move || dial(network.clone(), to.clone());
            tokio::spawn(passage::carry(listener, dial))
        }
        Protocol::Udp => {
            let socket = datagrams::listen(Ipv4Addr::LOCALHOST, port)?;
            let dial = move || dial_packets(network.clone(), to.clone());
            tokio::spawn(datagrams::carry(socket, dial))
        }
        Protocol::Sctp => return Err(passage::no_sctp()),
    };
    Ok(task.abort_handle())
}

async fn dial(network: Weak<Network>, to: Arc<Endpoints>) -> io::Result<TcpStream> {
    let endpoint = to.next()?;
    let network = network.upgrade().ok_or_else(stops)?;
    network.dial(*endpoint.ip(), endpoint.port()).await
}

async fn dial_packets(network: Weak<Network>, to: Arc<Endpoints>) -> io::Result<UdpSocket> {
    let endpoint = to.next()?;
    let network = network.upgrade().ok_or_else(stops)?;
    network.dial_packets(*endpoint.ip(), endpoint.port()).await
}

fn stops() -> io::Error {
    io::Error::other("the node stops")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_take_turns_and_none_is_an_error() {
        let to = Endpoints::default();
        assert!(to.next().is_err());
        let of = |last| SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, last), 80);
        *to.all() = vec![of(1), of(2)];
        let taken: Vec<_> = (0..4).map(|_| to.next().unwrap()).collect();
        assert_eq!(taken.iter().filter(|one| **one == of(1)).count(), 2);
        assert_ne!(taken[0], taken[1]);
    }
}
