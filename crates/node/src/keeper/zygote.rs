//! The zygote: started once from the binary, it forks a keeper for each sandbox.
//!
//! A fork costs a tenth of a millisecond and shares all memory that is only read; starting
//! the binary anew for each pod would cost milliseconds and megabytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::holder;
use super::message::{Birth, FromZygote, Ground, ToZygote};
use super::packet;
use super::serve::Keeper;
use super::syscalls::{close_all_on_exec, fork_into, leave};

/// Answers on standard input until the node goes; never returns.
pub(super) fn run() -> ! {
    let socket = match socket_from_stdin() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("the zygote has no socket: {error}");
            leave(1)
        }
    };
    let _ = nix::sys::prctl::set_name(c"sandlot-zygote");
    reap_by_ignoring();
    let code = match answer_all(&socket) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("the zygote stopped: {error}");
            1
        }
    };
    leave(code)
}

/// The socket comes as standard input. That number is for `/dev/null` in all that we fork:
/// whatever else took it would be closed, or worse, shown to a container.
fn socket_from_stdin() -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, fcntl};
    let stdin = std::io::stdin();
    let fd = fcntl(&stdin, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: the kernel just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(socket)
}

/// Keepers outlive the zygote and report to the node, so nobody waits for them here.
fn reap_by_ignoring() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::SA_NOCLDWAIT, SigSet::empty());
    // SAFETY: ignoring a signal runs no code of ours.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &ignore) };
}

fn answer_all(socket: &OwnedFd) -> io::Result<()> {
    let ground = std::env::args().nth(1).unwrap_or_default();
    holder::enter(Ground::parse(&ground))?;
    loop {
        let Some((question, _)) = packet::receive::<ToZygote>(socket.as_fd())? else {
            return Ok(());
        };
        match question {
            ToZygote::Keep(birth) => {
                let answer = match keep(&birth, socket.as_fd()) {
                    Ok(pid) => FromZygote::Kept { pid },
                    Err(error) => FromZygote::Failed(format!("cannot fork a keeper: {error}")),
                };
                packet::send(socket.as_fd(), &answer, &[])?;
            }
            ToZygote::Hold(file) => {
                let answer = match holder::fork(&file) {
                    Ok(pid) => FromZygote::Kept { pid },
                    Err(error) => FromZygote::Failed(format!("cannot hold the network: {error}")),
                };
                packet::send(socket.as_fd(), &answer, &[])?;
            }
            ToZygote::PassOn => {
                let answer = match holder::pass_on() {
                    Ok(()) => FromZygote::Done,
                    Err(error) => FromZygote::Failed(format!("cannot pass packets on: {error}")),
                };
                packet::send(socket.as_fd(), &answer, &[])?;
            }
            ToZygote::Socket {
                family,
                kind,
                protocol,
            } => match make_socket(family, kind, protocol) {
                Ok(made) => packet::send(socket.as_fd(), &FromZygote::Socket, &[made.as_fd()])?,
                Err(error) => {
                    packet::send(
                        socket.as_fd(),
                        &FromZygote::Failed(format!("cannot make a socket: {error}")),
                        &[],
                    )?;
                }
            },
        }
    }
}

fn make_socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe {
        libc::socket(
            family,
            kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            protocol,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn keep(birth: &Birth, mine: BorrowedFd<'_>) -> io::Result<i32> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let pid = fork_into(0)?;
    if pid == 0 {
        let _ = nix::unistd::close(std::os::fd::AsRawFd::as_raw_fd(&mine));
        drop(ours);
        close_all_on_exec();
        let code = match Keeper::start(birth) {
            Ok(mut keeper) => {
                drop(theirs);
                keeper.run()
            }
            Err(error) => {
                let _ = nix::unistd::write(&theirs, error.to_string().as_bytes());
                1
            }
        };
        leave(code);
    }
    drop(theirs);
    // The pipe closes when the keeper listens, or after it has said why it cannot.
    let mut trouble = String::new();
    io::Read::read_to_string(&mut std::fs::File::from(ours), &mut trouble)?;
    if trouble.is_empty() {
        Ok(pid)
    } else {
        Err(io::Error::other(trouble))
    }
}
