//! Messages over a Unix socket that keeps their borders, with open files riding along.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::{Serialize, de::DeserializeOwned};

/// No message is longer; what may be (a plan with its environment) travels as a file.
const LONGEST: usize = 128 * 1024;
/// No message carries more open files.
const MOST_FILES: usize = 8;
/// No plan is longer: an environment of a megabyte, doubled by its JSON quoting.
const LONGEST_PLAN: u64 = 8 * 1024 * 1024;

/// Sends one message; never waits for a reader that does not read.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        control,
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message; `None` when the other side has gone.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0u8; waiting(socket)?];
    let (length, files) = receive_raw(socket, &mut bytes)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..length])?, files)))
}

/// How long the next message is: nearly all are short, and room for the longest costs more to
/// make than they cost to read.
fn waiting(socket: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: nothing is written: the buffer's length is zero.
    let length = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_PEEK | libc::MSG_TRUNC,
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((length as usize).min(LONGEST))
}

/// Receives a file that rides along with anything.
pub(crate) fn receive_file(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let (_, files) = receive_raw(socket, &mut [0u8; 4096])?;
    Ok(files.into_iter().next())
}

fn receive_raw(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MOST_FILES]);
    let mut parts = [IoSliceMut::new(bytes)];
    let got = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut files = Vec::new();
    for message in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            for fd in raw {
                // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
                files.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok((got.bytes, files))
}

/// Writes something long into a file that exists only in memory.
pub(crate) fn to_memory(value: &impl Serialize) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"plan", MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&serde_json::to_vec(value)?)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads what [`to_memory`] wrote.
pub(crate) fn from_memory<T: DeserializeOwned>(fd: OwnedFd) -> io::Result<T> {
    let file = std::fs::File::from(fd);
    let length = file.metadata()?.len().min(LONGEST_PLAN);
    let mut bytes = Vec::with_capacity(length as usize + 1);
    file.take(LONGEST_PLAN).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
