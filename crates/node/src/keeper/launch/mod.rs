//! What a child of the keeper does between its fork and its program: join the control
//! groups, build or enter the container's view of the machine, become its user, give up
//! what it may not keep, and execute.
//!
//! Everything here runs in a forked child. Whatever goes wrong is sent to the keeper as a
//! [`Failure`] and the child ends; nothing returns to the keeper's own code.

pub(super) mod bundle;
mod configuration;
mod identity;
mod kernel_files;
mod program;
mod view;
mod volumes;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, SigSet, Signal};

use super::container::set_size;
use super::message::{Failure, Plan, Stage, Tell};
use super::namespaces::Namespaces;
use super::packet;
use super::syscalls::{close_all_on_exec, leave};
use identity::Users;

/// Where the program runs.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// In a new container, alone in its process namespace or beside others.
    New(&'a Namespaces, Company),
    /// In the container of this process.
    Within(BorrowedFd<'a>, &'a Namespaces),
}

/// Who else is in the process namespace of a new container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    /// Nobody.
    Alone,
    /// What runs in other containers.
    Others,
}

/// Runs the plan; never returns.
pub(super) fn run(plan: &Plan, place: Place<'_>, report: BorrowedFd<'_>) -> ! {
    close_all_on_exec();
    let failure = match launch(plan, place, report) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    let code = failure.code;
    let _ = packet::send(report, &Tell::Failed(failure), &[]);
    leave(code)
}

/// Something that cannot be: a launch that succeeds does not return.
enum Never {}

fn launch(plan: &Plan, place: Place<'_>, report: BorrowedFd<'_>) -> Result<Never, Failure> {
    // The keeper's end is ours: no container outlives the process that remembers it.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    join_cgroups(plan)?;
    set_limits(plan);
    let namespaces = match place {
        Place::New(namespaces, _) => {
            unshare(CloneFlags::CLONE_NEWNS).map_err(|error| create("a mount namespace", error))?;
            if let Some(view) = &plan.view {
                view::build(view, namespaces)?;
            }
            // After the groups were joined, so that the container sees itself as their root.
            let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
            namespaces
        }
        Place::Within(container, namespaces) => {
            let shared = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
            setns(container, shared)
                .map_err(|error| create("the container's namespaces", error))?;
            namespaces
        }
    };
    let _ = nix::unistd::setsid();
    let terminal = match plan.terminal {
        Some(size) => {
            Some(open_terminal(size, report).map_err(|error| create("a terminal", error))?)
        }
        None => None,
    };
    let top = view::open_folder(Path::new("/")).map_err(|error| create("the root", error))?;
    let user = identity::find(&plan.identity, top.as_fd())?;
    drop(top);
    program::make_folder(&plan.cwd, namespaces.root_id).map_err(|error| {
        create(
            &format!("cannot make the working directory {:?}", plan.cwd),
            error,
        )
    })?;
    for folder in &plan.folders {
        // On a root that is read-only what is missing stays missing.
        let _ = program::make_folder(folder, namespaces.root_id);
    }
    let users = match place {
        // Only the pod's root is mapped into it.
        _ if !namespaces.is_one_user() || user.uid == 0 => Users::Pods,
        Place::New(_, Company::Alone) => Users::Own,
        Place::New(_, Company::Others) => Users::Pods,
        Place::Within(container, _) => Users::Containers(container),
    };
    identity::become_user(&plan.identity, &user, namespaces, users, terminal.as_ref())?;
    nix::unistd::chdir(plan.cwd.as_str()).map_err(|error| Failure {
        stage: Stage::Start,
        message: format!("cannot enter the working directory {:?}: {error}", plan.cwd),
        code: 126,
    })?;
    restore_signals();
    // Changing users has cleared it.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    Err(program::execute(plan, &user))
}

fn create(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure {
        stage: Stage::Create,
        message: format!("{what}: {error}"),
        code: 128,
    }
}

fn join_cgroups(plan: &Plan) -> Result<(), Failure> {
    for file in &plan.cgroups {
        fs::write(file, "0")
            .map_err(|error| create(&format!("cannot join {}", file.display()), error))?;
    }
    Ok(())
}

/// Limits the machine does not let us set are said once by the node, not by every container.
fn set_limits(plan: &Plan) {
    if plan.oom_score_adj != 0 {
        let _ = fs::write("/proc/self/oom_score_adj", plan.oom_score_adj.to_string());
    }
    for (resource, soft, hard) in &plan.rlimits {
        let limit = libc::rlimit {
            rlim_cur: *soft,
            rlim_max: *hard,
        };
        // SAFETY: the structure outlives the call, which only reads it.
        unsafe { libc::setrlimit(*resource as libc::__rlimit_resource_t, &limit) };
    }
}

/// Opens a terminal inside the container, so that its programs can name it; the master
/// side goes to the keeper.
fn open_terminal(size: (u16, u16), report: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open("/dev/pts/ptmx", flags, Mode::empty())?;
    let unlocked: libc::c_int = 0;
    let mut number: libc::c_uint = 0;
    // SAFETY: the first request reads an int, the second writes one; both outlive the calls.
    unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlocked);
        if libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &mut number) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let slave = open(format!("/dev/pts/{number}").as_str(), flags, Mode::empty())?;
    set_size(slave.as_fd(), size.0, size.1)?;
    // SAFETY: no pointer is passed; the slave becomes the new session's terminal.
    if unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    nix::unistd::dup2_stdin(&slave)?;
    nix::unistd::dup2_stdout(&slave)?;
    nix::unistd::dup2_stderr(&slave)?;
    // Who waits for the terminal knows the process already.
    let (pid, since) = (0, jiff::Timestamp::now());
    packet::send(report, &Tell::Started { pid, since }, &[master.as_fd()])?;
    Ok(slave)
}

/// The keeper blocks some signals and Rust ignores SIGPIPE; programs expect neither.
fn restore_signals() {
    let _ = SigSet::empty().thread_set_mask();
    // SAFETY: the default actions run no code of ours.
    unsafe {
        let _ = nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl);
        let _ = nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl);
    }
}
