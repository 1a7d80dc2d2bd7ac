//! The sockets and pipes around a keeper.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

/// Unix socket names are short and data folders may be deep: go through the open folder.
pub(crate) fn socket_in(dir: &Path) -> io::Result<(std::fs::File, UnixAddr)> {
    let folder = std::fs::File::open(dir)?;
    let name = format!("/proc/self/fd/{}/keeper.sock", folder.as_raw_fd());
    Ok((folder, UnixAddr::new(name.as_str())?))
}

pub(super) fn listen_in(dir: &Path) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(dir.join("keeper.sock"));
    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let (_folder, address) = socket_in(dir)?;
    bind(listener.as_raw_fd(), &address)?;
    listen(&listener, Backlog::new(128)?)?;
    Ok(listener)
}

/// Listens in a folder for a runtime that hands over a terminal.
pub(super) fn console_socket(dir: &Path, name: &OsStr) -> io::Result<OwnedFd> {
    let listener = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let folder = std::fs::File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), name.display());
    bind(listener.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
    listen(&listener, Backlog::new(1)?)?;
    Ok(listener)
}

/// A pair of sockets for a child to report on, closed when its program runs.
pub(super) fn report_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::sys::socket::socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Pipes read without waiting.
pub(super) fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}
