//! The pods' resolver: names of the cluster, and, when egress is open, of the world.

mod answer;
mod upstream;
mod zone;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::firewall::Net;
use answer::Answer;
pub(crate) use zone::{DOMAIN, Zone};

/// Questions worked on at one time; more wait in the kernel, which drops what it cannot hold.
const MOST_QUESTIONS: usize = 256;
/// Connections at one time, so that pods cannot use up the node's files.
const MOST_CONNECTIONS: usize = 64;
/// Nobody needs a connection for longer.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);
/// The length that every resolver takes over UDP.
const ALWAYS_FITS: u16 = 512;

/// What the resolver knows; changed while it runs.
pub(crate) struct Names {
    zone: Mutex<Arc<Zone>>,
    pods: Net,
    /// Whether names of the world are looked up.
    world: bool,
}

impl Names {
    /// Knows nothing yet.
    pub(crate) fn new(pods: Net, world: bool) -> Arc<Names> {
        Arc::new(Names {
            zone: Mutex::default(),
            pods,
            world,
        })
    }

    /// From now on names mean this.
    pub(crate) fn learn(&self, zone: Zone) {
        *self.zone.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    /// The answer to a message; none when there is nothing to say.
    async fn answer(&self, message: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let asked = Message::from_vec(message).ok()?;
        let zone = self
            .zone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let said = match answer::answer(&asked, &zone, self.pods) {
            Answer::Silence => return None,
            Answer::Say(said) => *said,
            Answer::AskOthers if !self.world => answer::plain(&asked, ResponseCode::Refused),
            Answer::AskOthers => match upstream::ask(message, over_tcp).await {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    tracing::debug!(%error, "no name server of the machine answers");
                    answer::plain(&asked, ResponseCode::ServFail)
                }
            },
        };
        let bytes = said.to_vec().ok()?;
        let room = usize::from(asked.max_payload().max(ALWAYS_FITS));
        if over_tcp || bytes.len() <= room {
            return Some(bytes);
        }
        said.truncate().to_vec().ok()
    }

    /// Answers packets until the task is ended.
    pub(crate) async fn serve_packets(self: Arc<Names>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let room = Arc::new(Semaphore::new(MOST_QUESTIONS));
        let mut working = JoinSet::new();
        let mut packet = vec![0u8; 4096];
        loop {
            while working.try_join_next().is_some() {}
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            let (length, from) = match socket.recv_from(&mut packet).await {
                Ok(received) => received,
                Err(error) => {
                    rest(&error).await;
                    continue;
                }
            };
            let (names, socket) = (self.clone(), socket.clone());
            let message = packet[..length].to_vec();
            working.spawn(async move {
                if let Some(answer) = names.answer(&message, false).await {
                    // A pod that has gone needs no answer.
                    let _ = socket.send_to(&answer, from).await;
                }
                drop(permit);
            });
        }
    }

    /// Answers connections until the task is ended.
    pub(crate) async fn serve_streams(self: Arc<Names>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut working = JoinSet::new();
        loop {
            while working.try_join_next().is_some() {}
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let names = self.clone();
                    working.spawn(async move {
                        let conversation = names.converse(stream);
                        let _ = tokio::time::timeout(LONGEST_CONNECTION, conversation).await;
                        drop(permit);
                    });
                }
                Err(error) => rest(&error).await,
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        while let Some(message) = upstream::read_message(&mut stream).await? {
            match self.answer(&message, true).await {
                Some(answer) => upstream::write_message(&mut stream, &answer).await?,
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

/// After an error of the socket itself, lest it be asked again and again.
async fn rest(error: &io::Error) {
    tracing::debug!(%error, "the resolver's socket has an error");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The sockets of the resolver: one port for packets and streams, the usual one if it is free.
pub(crate) async fn sockets(
    open: impl AsyncFn(i32) -> io::Result<std::os::fd::OwnedFd>,
    address: std::net::Ipv4Addr,
) -> io::Result<(UdpSocket, TcpListener, u16)> {
    const TRIES: usize = 8;
    let mut wanted = 53;
    for _ in 0..TRIES {
        let packets = open(libc::SOCK_DGRAM).await?;
        let at =
            |port| nix::sys::socket::SockaddrIn::from(std::net::SocketAddrV4::new(address, port));
        use std::os::fd::AsRawFd as _;
        if nix::sys::socket::bind(packets.as_raw_fd(), &at(wanted)).is_err() {
            wanted = 0;
            continue;
        }
        let packets = UdpSocket::from_std(std::net::UdpSocket::from(packets))?;
        let port = packets.local_addr()?.port();
        let streams = tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(
            open(libc::SOCK_STREAM).await?,
        ));
        streams.set_reuseaddr(true)?;
        if streams.bind(SocketAddr::from((address, port))).is_err() {
            wanted = 0;
            continue;
        }
        return Ok((packets, streams.listen(64)?, port));
    }
    Err(io::Error::other("no port is free for the pods' resolver"))
}
