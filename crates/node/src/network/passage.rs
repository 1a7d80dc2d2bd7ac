//! Taking connections in one place and making them anew in another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections to one port at one time.
const MOST_CONNECTIONS: usize = 128;
/// The buffer of each direction of a connection.
const BUFFER: usize = 16 << 10;
/// A pod that does not answer for so long does not at all.
const LONGEST_DIAL: Duration = Duration::from_secs(10);

/// Why a port for SCTP stays closed: what carries it would have to speak it, and few kernels do.
pub(super) fn no_sctp() -> io::Error {
    io::Error::other("SCTP is not carried from this machine, only TCP and UDP")
}

/// Listens without being waited for.
pub(super) fn listen(address: std::net::Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((address, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Carries connections until the task is ended; `dial` makes the other side of each.
pub(super) async fn carry<Dialled>(
    listener: TcpListener,
    dial: impl Fn() -> Dialled + Send + Sync + 'static,
) where
    Dialled: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut working = JoinSet::new();
    loop {
        while working.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((outside, _)) => {
                let dialled = dial();
                working.spawn(async move {
                    if let Err(error) = one(outside, dialled).await {
                        tracing::debug!(%error, "a connection to a pod was not made");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot take a connection to a pod");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn one(
    mut outside: TcpStream,
    dialled: impl Future<Output = io::Result<TcpStream>>,
) -> io::Result<()> {
    let dialled = tokio::time::timeout(LONGEST_DIAL, dialled).await;
    let mut within = match dialled {
        Ok(Ok(within)) => within,
        failed => {
            // The caller sees what it would see if nobody listened.
            outside.set_zero_linger()?;
            return failed
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map(|_| ());
        }
    };
    outside.set_nodelay(true)?;
    within.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut outside, &mut within, BUFFER, BUFFER)
        .await
        .map(|_| ())
}
