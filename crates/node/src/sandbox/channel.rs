//! The node's end of a conversation with the zygote or a keeper.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::keeper::{packet, socket_in};

/// A connected socket that keeps the borders of messages.
pub(crate) struct Channel {
    socket: AsyncFd<OwnedFd>,
}

impl Channel {
    /// Talks over an open socket.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Channel> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the channel owns the descriptor and never gives it away.
        let socket = unsafe { AsyncFd::register_with_interest(socket, interest) }?;
        Ok(Channel { socket })
    }

    /// Connects to the keeper in a sandbox's folder.
    pub(crate) fn to_keeper(dir: &Path) -> io::Result<Channel> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let (_folder, address) = socket_in(dir)?;
        connect(client.as_raw_fd(), &address)?;
        Channel::new(client)
    }

    /// Sends a message.
    pub(crate) async fn send(
        &self,
        message: &impl Serialize,
        files: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            match ready.try_io(|socket| packet::send(socket.as_fd(), message, files)) {
                Ok(sent) => return sent,
                Err(_would_block) => {}
            }
        }
    }

    /// Waits for a message; the other side's leaving is an error.
    pub(crate) async fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| packet::receive(socket.as_fd())) {
                Ok(Ok(Some(received))) => return Ok(received),
                Ok(Ok(None)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}
