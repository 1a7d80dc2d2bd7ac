//! Forking what runs in a pod: a container's first process, or a command in a container.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};

use super::container::Container;
use super::launch::{self, Company, Place};
use super::log::Log;
use super::message::{Given, Plan};
use super::namespaces::{Namespaces, Reaper};
use super::oci::Call;
use super::socket::{output_pipe, report_pair};
use super::syscalls::{aside, fork_into, pidfd};

/// A child of the keeper.
pub(super) struct Process {
    pub pid: Pid,
    pub purpose: Purpose,
    /// The connection to answer.
    pub asked_by: u64,
    pub started: jiff::Timestamp,
    /// Where the child reports until its program runs.
    pub launching: Option<OwnedFd>,
    /// The terminal made for a command, until it is handed over.
    pub terminal: Option<OwnedFd>,
    /// It never ran its program, and whoever asked knows.
    pub failed: bool,
}

/// Whose process namespace a container is to share.
#[derive(Clone, Copy)]
pub(super) enum Beside<'a> {
    /// That of all the pod's containers.
    Reaper(&'a Reaper),
    /// That of the container with this first process.
    Container(Pid),
}

impl Beside<'_> {
    /// A process that is in there.
    pub(super) fn pid(&self) -> Pid {
        match self {
            Beside::Reaper(reaper) => reaper.pid,
            Beside::Container(pid) => *pid,
        }
    }
}

/// What a child is.
pub(super) enum Purpose {
    /// The first process of the container of this name.
    Container(String),
    /// A command in a container.
    Command,
    /// A runtime that does something for us.
    Call(Box<Call>),
}

/// The ends of the standard streams that a child takes.
#[derive(Default)]
pub(super) struct Ends {
    stdin: Option<OwnedFd>,
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
}

impl Process {
    /// Forks a container's first process, into the process namespace that it is to share if it is
    /// to be `beside` another.
    pub(super) fn container(
        name: &str,
        plan: &Plan,
        namespaces: &Namespaces,
        beside: Option<Beside<'_>>,
        asked_by: u64,
    ) -> io::Result<(Process, Container)> {
        let (ours, theirs) = report_pair()?;
        let (ends, mut container) = open_streams(plan)?;
        let started = jiff::Timestamp::now();
        let company = match beside {
            Some(_) => Company::Others,
            None => Company::Alone,
        };
        let mut run = || -> Infallible {
            take_streams(&ends, plan.terminal.is_some());
            launch::run(plan, Place::New(namespaces, company), theirs.as_fd())
        };
        let pid = match beside {
            Some(Beside::Reaper(reaper)) => fork_beside(&reaper.processes, &mut run)?,
            Some(Beside::Container(other)) => fork_beside(&pidfd(other.as_raw())?, &mut run)?,
            None => fork(libc::CLONE_NEWPID, &mut run)?,
        };
        let pid = Pid::from_raw(pid);
        let process = Process {
            pid,
            purpose: Purpose::Container(name.to_owned()),
            asked_by,
            started,
            launching: Some(ours),
            terminal: None,
            failed: false,
        };
        (container.pid, container.started) = (pid, started);
        Ok((process, container))
    }

    /// Forks a command into a running container.
    pub(super) fn command(
        plan: &Plan,
        streams: Vec<OwnedFd>,
        given: Given,
        within: Pid,
        namespaces: &Namespaces,
        asked_by: u64,
    ) -> io::Result<Process> {
        let (ours, theirs) = report_pair()?;
        let ends = given_ends(streams, given);
        let container = pidfd(within.as_raw())?;
        let started = jiff::Timestamp::now();
        let pid = fork_beside(&container, &mut || -> Infallible {
            take_streams(&ends, plan.terminal.is_some());
            let place = Place::Within(container.as_fd(), namespaces);
            launch::run(plan, place, theirs.as_fd())
        })?;
        Ok(Process {
            pid: Pid::from_raw(pid),
            purpose: Purpose::Command,
            asked_by,
            started,
            launching: Some(ours),
            terminal: None,
            failed: false,
        })
    }
}

/// A container that is yet to be started, and the other ends of its streams.
pub(super) fn open_streams(plan: &Plan) -> io::Result<(Ends, Container)> {
    let mut ends = Ends::default();
    let (mut out, mut err, mut stdin) = (None, None, None);
    if plan.terminal.is_none() {
        let (out_read, out_write) = output_pipe()?;
        let (err_read, err_write) = output_pipe()?;
        (out, err) = (Some(out_read), Some(err_read));
        (ends.out, ends.err) = (Some(out_write), Some(err_write));
        if plan.stdin {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
            nix::fcntl::fcntl(
                &write,
                nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
            )?;
            (ends.stdin, stdin) = (Some(read), Some(write));
        }
    }
    let container = Container {
        pid: Pid::from_raw(0),
        launched: false,
        started: jiff::Timestamp::now(),
        ended: None,
        out,
        err,
        terminal: None,
        stdin,
        stdin_once: plan.stdin_once,
        log: plan.log.as_ref().map(Log::open).transpose()?,
        attached: std::collections::BTreeMap::new(),
        pending: std::collections::VecDeque::new(),
    };
    Ok((ends, container))
}

/// The streams that a client gave for its command.
pub(super) fn given_ends(streams: Vec<OwnedFd>, given: Given) -> Ends {
    let mut streams = streams.into_iter();
    let mut next = |wanted: bool| if wanted { streams.next() } else { None };
    Ends {
        stdin: next(given.stdin),
        out: next(given.stdout),
        err: next(given.stderr),
    }
}

/// Forks a child into new namespaces.
pub(super) fn fork(
    namespaces: libc::c_int,
    child: &mut dyn FnMut() -> Infallible,
) -> io::Result<libc::pid_t> {
    let pid = fork_into(namespaces)?;
    if pid == 0 {
        child();
    }
    Ok(pid)
}

/// Forks a child of ours into the process namespace that a descriptor stands for, or that the
/// process is in for which it does.
///
/// Without root nobody may come back from such a namespace, so the keeper itself must not enter.
fn fork_beside(other: &OwnedFd, child: &mut dyn FnMut() -> Infallible) -> io::Result<libc::pid_t> {
    fork_through(&|| setns(other, CloneFlags::CLONE_NEWPID), 0, child)
}

/// Forks a child of ours by way of a helper, which first enters somewhere that we stay out of.
pub(super) fn fork_through(
    enter: &dyn Fn() -> nix::Result<()>,
    namespaces: libc::c_int,
    child: &mut dyn FnMut() -> Infallible,
) -> io::Result<libc::pid_t> {
    let mut forked = Err(io::Error::other("the helper was ended"));
    aside(&mut || {
        forked = match enter() {
            Ok(()) => fork(libc::CLONE_PARENT | namespaces, child),
            Err(error) => Err(error.into()),
        };
    })?;
    forked.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("its namespace cannot be entered: {error}"),
        )
    })
}

/// In the child: makes the given ends its standard streams; `/dev/null` stays for the others.
pub(super) fn take_streams(ends: &Ends, terminal: bool) {
    if terminal {
        return;
    }
    if let Some(fd) = &ends.stdin {
        let _ = dup2_stdin(fd);
    }
    if let Some(fd) = &ends.out {
        let _ = dup2_stdout(fd);
    }
    if let Some(fd) = &ends.err {
        let _ = dup2_stderr(fd);
    }
}
