//! One container as its keeper holds it: its first process, its streams, its log.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::unistd::{Pid, read, write};

use super::log::{Log, Stream};
use super::message::{ContainerState, Ended, Given};

/// A container that runs or has ended.
pub(super) struct Container {
    pub pid: Pid,
    /// Its program runs; before, it is being built.
    pub launched: bool,
    pub started: jiff::Timestamp,
    pub ended: Option<Ended>,
    pub out: Option<OwnedFd>,
    pub err: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    pub stdin_once: bool,
    pub log: Option<Log>,
    pub attached: BTreeMap<u64, Attached>,
    /// Read from a client, not yet taken by the container.
    pub pending: VecDeque<u8>,
}

/// A client that joined the streams.
pub(super) struct Attached {
    stdin: Option<OwnedFd>,
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
}

/// Which stream of a container woke the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Out,
    Err,
    Terminal,
    /// A client's stdin has something.
    Client(u64),
    /// The container can take more of what clients sent.
    Stdin,
}

impl Container {
    pub(super) fn state(&self) -> ContainerState {
        match &self.ended {
            Some(ended) => ContainerState::Ended(ended.clone()),
            None => ContainerState::Running {
                pid: self.pid.as_raw(),
                since: self.started,
            },
        }
    }

    /// What to wait for.
    pub(super) fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut sources = Vec::new();
        for (source, fd) in [
            (Source::Out, &self.out),
            (Source::Err, &self.err),
            (Source::Terminal, &self.terminal),
        ] {
            if let Some(fd) = fd {
                sources.push((source, fd.as_fd(), PollFlags::POLLIN));
            }
        }
        if !self.pending.is_empty() {
            if let Some(target) = self.input() {
                sources.push((Source::Stdin, target, PollFlags::POLLOUT));
            }
            // Clients wait until the container has taken what they sent.
            return sources;
        }
        for (number, client) in &self.attached {
            if let Some(fd) = &client.stdin {
                sources.push((Source::Client(*number), fd.as_fd(), PollFlags::POLLIN));
            }
        }
        sources
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        self.terminal
            .as_ref()
            .or(self.stdin.as_ref())
            .map(AsFd::as_fd)
    }

    /// Takes what a stream has.
    pub(super) fn read(&mut self, source: Source, buffer: &mut [u8]) {
        match source {
            Source::Out => self.take(Source::Out, Stream::Out, buffer),
            Source::Err => self.take(Source::Err, Stream::Err, buffer),
            Source::Terminal => self.take(Source::Terminal, Stream::Out, buffer),
            Source::Client(number) => self.take_from_client(number, buffer),
            Source::Stdin => self.feed(),
        }
    }

    fn take(&mut self, source: Source, stream: Stream, buffer: &mut [u8]) {
        let from = match source {
            Source::Out => &mut self.out,
            Source::Err => &mut self.err,
            _ => &mut self.terminal,
        };
        let Some(fd) = from else { return };
        match read(&*fd, buffer) {
            Ok(length) if length > 0 => {
                if let Some(log) = &mut self.log {
                    log.write(stream, &buffer[..length]);
                }
                for client in self.attached.values_mut() {
                    client.give(stream, &buffer[..length]);
                }
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            // A terminal whose other side has closed says EIO.
            Ok(_) | Err(_) => *from = None,
        }
    }

    fn take_from_client(&mut self, number: u64, buffer: &mut [u8]) {
        let Some(client) = self.attached.get_mut(&number) else {
            return;
        };
        let Some(fd) = &client.stdin else { return };
        match read(fd, buffer) {
            Ok(length) if length > 0 => {
                self.pending.extend(&buffer[..length]);
                self.feed();
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Ok(_) | Err(_) => {
                client.stdin = None;
                if self.stdin_once && self.pending.is_empty() {
                    self.stdin = None;
                }
            }
        }
    }

    fn feed(&mut self) {
        while !self.pending.is_empty() {
            let Some(target) = self.input() else {
                self.pending.clear();
                return;
            };
            let taken = match write(target, self.pending.as_slices().0) {
                Ok(taken) => taken,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return,
                Err(_) => {
                    self.pending.clear();
                    return;
                }
            };
            self.pending.drain(..taken);
        }
        if self.stdin_once && self.attached.values().all(|client| client.stdin.is_none()) {
            self.stdin = None;
        }
    }

    /// Takes what is left in the streams after the end; does not wait for children that
    /// hold them open.
    pub(super) fn drain(&mut self, buffer: &mut [u8]) {
        // As much as a pipe can hold, so that a survivor that floods cannot keep us here.
        for _ in 0..32 {
            for (source, stream) in [
                (Source::Out, Stream::Out),
                (Source::Err, Stream::Err),
                (Source::Terminal, Stream::Out),
            ] {
                self.take(source, stream, buffer);
            }
        }
        (self.out, self.err, self.terminal, self.stdin) = (None, None, None, None);
        if let Some(mut log) = self.log.take() {
            log.finish();
        }
    }

    pub(super) fn take_terminal(&mut self, master: OwnedFd) {
        let _ = without_waiting(&master);
        self.terminal = Some(master);
    }

    pub(super) fn resize(&self, width: u16, height: u16) {
        if let Some(master) = &self.terminal {
            let _ = set_size(master.as_fd(), width, height);
        }
    }

    pub(super) fn attach(&mut self, number: u64, files: Vec<OwnedFd>, given: Given) {
        for file in &files {
            let _ = without_waiting(file);
        }
        let mut files = files.into_iter();
        let mut next = |wanted: bool| if wanted { files.next() } else { None };
        let client = Attached {
            stdin: next(given.stdin),
            out: next(given.stdout),
            err: next(given.stderr),
        };
        self.attached.insert(number, client);
    }

    pub(super) fn detach(&mut self, number: u64) {
        self.attached.remove(&number);
    }

    /// Lets all clients go; their numbers come back so that they can be told.
    pub(super) fn detach_all(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.attached).into_keys().collect()
    }
}

impl Attached {
    /// A client that does not read what it asked for loses the stream, not the container.
    fn give(&mut self, stream: Stream, bytes: &[u8]) {
        let to = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        if let Some(fd) = to
            && write(&*fd, bytes) != Ok(bytes.len())
        {
            *to = None;
        }
    }
}

fn without_waiting(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Tells a terminal its size.
pub(crate) fn set_size(terminal: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads one winsize, which outlives the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
