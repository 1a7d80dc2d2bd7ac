//! The keeper: one small process for each pod. It holds the namespaces, is the parent of
//! the containers, writes their logs and remembers how they ended, so that the node can
//! be stopped, killed and replaced without the pod noticing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockFlag, accept4};
use nix::unistd::Pid;

use super::container::{Container, Source};
use super::message::{Ask, Birth, Tell};
use super::namespaces::{Namespaces, Reaper};
use super::oci::Runtimes;
use super::packet;
use super::process::Process;
use super::socket::listen_in;
use super::syscalls::pidfd;

/// More clients than this at one time are turned away.
const MOST_CONNECTIONS: usize = 256;

/// The keeper of one pod.
pub(super) struct Keeper {
    pub(super) dir: PathBuf,
    listener: OwnedFd,
    pub(super) signals: SignalFd,
    pub(super) namespaces: Namespaces,
    /// The first process of a process namespace that all containers share.
    pub(super) reaper: Option<Reaper>,
    pub(super) share_processes: bool,
    /// It is a certain pod's already; a node that was interrupted asks again.
    pub(super) prepared: bool,
    /// Who forked it. A sandbox that is nobody's yet ends with the node that made it.
    zygote: OwnedFd,
    pub(super) connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) processes: BTreeMap<i32, Process>,
    pub(super) runtimes: Runtimes,
    pub(super) leaving: bool,
}

/// A client of the keeper.
pub(super) struct Connection {
    socket: OwnedFd,
    pub(super) watching: bool,
    /// The command that lives no longer than this connection.
    pub(super) command: Option<Pid>,
    /// The container whose streams it joined.
    pub(super) attached: Option<String>,
}

/// What woke the keeper.
enum Wake {
    Listener,
    Signals,
    /// The zygote has gone, and the node with it.
    Orphaned,
    Connection(u64),
    Launch(i32),
    /// A runtime has a terminal for us.
    Console(i32),
    Stream(String, Source),
}

impl Keeper {
    /// Makes the sandbox around the calling process and begins to listen.
    pub(super) fn start(birth: &Birth) -> io::Result<Keeper> {
        let zygote = pidfd(nix::unistd::getppid().as_raw())?;
        nix::unistd::setsid()?;
        let _ = nix::sys::prctl::set_name(c"sandlot-keeper");
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        nix::unistd::dup2_stderr(&null)?;
        std::env::set_current_dir("/")?;
        let mask = SigSet::from_iter([
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
        ]);
        // The zygote ignores its children; a keeper waits for its own.
        let default = nix::sys::signal::SigAction::new(
            nix::sys::signal::SigHandler::SigDfl,
            nix::sys::signal::SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the default action runs no code of ours.
        unsafe { nix::sys::signal::sigaction(Signal::SIGCHLD, &default) }?;
        let namespaces = Namespaces::make(birth)?;
        // From here on nobody in a pod may look into this process or its forks.
        nix::sys::prctl::set_dumpable(false)?;
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Keeper {
            listener: listen_in(&birth.dir)?,
            dir: birth.dir.clone(),
            signals,
            namespaces,
            reaper: None,
            share_processes: false,
            prepared: false,
            zygote,
            connections: BTreeMap::new(),
            next_connection: 0,
            containers: BTreeMap::new(),
            processes: BTreeMap::new(),
            runtimes: Runtimes::default(),
            leaving: false,
        })
    }

    /// Serves until asked to leave; the result is the exit code.
    pub(super) fn run(&mut self) -> i32 {
        let mut buffer = vec![0u8; 64 * 1024];
        while !self.leaving {
            if let Err(error) = self.turn(&mut buffer)
                && error.kind() != io::ErrorKind::Interrupted
            {
                break;
            }
        }
        self.kill_all();
        let _ = std::fs::remove_file(self.dir.join("keeper.sock"));
        0
    }

    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let woken = {
            let mut wakes = vec![Wake::Listener, Wake::Signals];
            let mut polled = vec![
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            if !self.prepared {
                wakes.push(Wake::Orphaned);
                polled.push(PollFd::new(self.zygote.as_fd(), PollFlags::POLLIN));
            }
            for (number, connection) in &self.connections {
                wakes.push(Wake::Connection(*number));
                polled.push(PollFd::new(connection.socket.as_fd(), PollFlags::POLLIN));
            }
            for (pid, process) in &self.processes {
                if let Some(status) = &process.launching {
                    wakes.push(Wake::Launch(*pid));
                    polled.push(PollFd::new(status.as_fd(), PollFlags::POLLIN));
                }
            }
            for (pid, call) in self.calls() {
                if let Some(socket) = call.console() {
                    wakes.push(Wake::Console(pid));
                    polled.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
                }
            }
            for (name, container) in &self.containers {
                for (source, fd, events) in container.sources() {
                    wakes.push(Wake::Stream(name.clone(), source));
                    polled.push(PollFd::new(fd, events));
                }
            }
            poll(&mut polled, self.patience())?;
            let quiet = PollFlags::empty();
            let woken: Vec<Wake> = wakes
                .into_iter()
                .zip(&polled)
                .filter(|(_, polled)| polled.revents().is_some_and(|events| events != quiet))
                .map(|(wake, _)| wake)
                .collect();
            woken
        };
        for wake in woken {
            match wake {
                Wake::Listener => self.accept(),
                // The question that makes it a pod's may have come in this very moment.
                Wake::Orphaned => self.leaving |= !self.prepared,
                Wake::Signals => self.on_signals(buffer),
                Wake::Connection(number) => self.on_connection(number),
                Wake::Launch(pid) => self.on_launch(pid),
                Wake::Console(pid) => self.on_console(pid),
                Wake::Stream(name, source) => {
                    if let Some(container) = self.containers.get_mut(&name) {
                        container.read(source, buffer);
                    }
                }
            }
        }
        self.end_late_calls(Instant::now());
        Ok(())
    }

    /// Until the first runtime that was called has taken too long.
    fn patience(&self) -> PollTimeout {
        let Some(deadline) = self.calls().map(|(_, call)| call.deadline()).min() else {
            return PollTimeout::NONE;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        // A little later rather than a moment too early.
        PollTimeout::try_from(left + Duration::from_millis(10)).unwrap_or(PollTimeout::MAX)
    }

    fn accept(&mut self) {
        use std::os::fd::{AsRawFd, FromRawFd};
        let Ok(fd) = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) else {
            return;
        };
        // SAFETY: accept just made this descriptor for us.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        if self.connections.len() >= MOST_CONNECTIONS {
            return;
        }
        self.next_connection += 1;
        let connection = Connection {
            socket,
            watching: false,
            command: None,
            attached: None,
        };
        self.connections.insert(self.next_connection, connection);
    }

    fn on_connection(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        match packet::receive::<Ask>(connection.socket.as_fd()) {
            Ok(Some((ask, files))) => {
                if let Err(failure) = self.answer(number, ask, files) {
                    self.tell(number, &Tell::Failed(failure), None);
                }
            }
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => {}
            Ok(None) | Err(_) => self.hang_up(number),
        }
    }

    /// A command lives no longer than whoever asked for it.
    fn hang_up(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        if let Some(pid) = connection.command {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Some(container) = connection
            .attached
            .and_then(|name| self.containers.get_mut(&name))
        {
            container.detach(number);
        }
    }

    /// A client that does not read is cut off; it can come back and ask for all states.
    pub(super) fn tell(&mut self, number: u64, told: &Tell, file: Option<BorrowedFd<'_>>) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        if packet::send(connection.socket.as_fd(), told, &files).is_err() {
            self.hang_up(number);
        }
    }
}
