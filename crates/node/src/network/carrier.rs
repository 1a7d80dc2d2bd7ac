//! Connections to the world that the node makes on its pods' behalf.
//!
//! Where the kernel may not send pods' packets on, it hands their TCP connections to the
//! node, which asks where they were meant to go and makes them anew from the machine.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::firewall::Net;
use super::rules::{ALL_PODS, LINK_LOCAL, SERVICES};

/// Connections at one time, so that pods cannot use up the node's files.
const MOST_CONNECTIONS: usize = 512;
/// A server that does not answer for so long is not there.
const LONGEST_DIAL: Duration = Duration::from_secs(30);
/// The buffer of each direction of a connection.
const BUFFER: usize = 16 << 10;

/// Places that no pod is taken to, whatever the policies say.
const CLOSED: [Net; 6] = [
    ALL_PODS,
    SERVICES,
    LINK_LOCAL,
    Net::new(Ipv4Addr::new(127, 0, 0, 0), 8),
    Net::new(Ipv4Addr::UNSPECIFIED, 8),
    Net::new(Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Carries connections until the task is ended; `allowed` says who may go where.
pub(super) async fn carry(
    listener: TcpListener,
    allowed: Arc<dyn Fn(Ipv4Addr, SocketAddrV4) -> bool + Send + Sync>,
) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut working = JoinSet::new();
    loop {
        while working.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, from)) => {
                let allowed = allowed.clone();
                working.spawn(async move {
                    if let Err(error) = one(stream, from, &*allowed).await {
                        tracing::debug!(%from, %error, "a pod's connection was not made");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot take a pod's connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn one(
    mut inside: TcpStream,
    from: SocketAddr,
    allowed: &(dyn Fn(Ipv4Addr, SocketAddrV4) -> bool + Send + Sync),
) -> io::Result<()> {
    let meant = meant_for(&inside)?;
    let SocketAddr::V4(from) = from else {
        return Ok(());
    };
    let closed = CLOSED.iter().any(|net| net.holds(*meant.ip())) || own()?.contains(meant.ip());
    if closed || !allowed(*from.ip(), meant) {
        // The pod sees its connection reset.
        inside.set_zero_linger()?;
        return Ok(());
    }
    let dialled = tokio::time::timeout(LONGEST_DIAL, TcpStream::connect(meant)).await;
    let mut outside = match dialled {
        Ok(Ok(outside)) => outside,
        Ok(Err(error)) => {
            inside.set_zero_linger()?;
            return Err(error);
        }
        Err(_) => {
            inside.set_zero_linger()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
    };
    tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut outside, BUFFER, BUFFER)
        .await
        .map(|_| ())
}

/// Where a connection was meant to go before it was handed to us.
fn meant_for(stream: &TcpStream) -> io::Result<SocketAddrV4> {
    let found = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::OriginalDst)?;
    Ok(SocketAddrV4::new(
        Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr)),
        u16::from_be(found.sin_port),
    ))
}

/// The machine's own addresses: its services are not the world.
fn own() -> io::Result<BTreeSet<Ipv4Addr>> {
    let found = nix::ifaddrs::getifaddrs()?;
    Ok(found
        .filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip()))
        .collect())
}
