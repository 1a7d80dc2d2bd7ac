//! The process beside a cell: it makes the namespaces, and ends as the task has.

use std::{
    fs::{self, File},
    io::Read,
    os::fd::{FromRawFd, IntoRawFd},
};

use nix::{
    fcntl::OFlag,
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigHandler, Signal, raise, signal},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork, getegid, geteuid, pipe2},
};

use super::{Cell, During, Failed, inside, limits::Group, may_choose};

/// What the supervisor sends to everybody, and only the task is to follow.
const MEANT_FOR_THE_TASK: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Runs a task in its cell; the code to end with.
pub(super) fn run(cell: &Cell) -> Result<i32, Failed> {
    for one in MEANT_FOR_THE_TASK {
        set(one, SigHandler::SigIgn)?;
    }
    let (group, hold) = cell
        .share
        .and_then(|share| {
            let folder = cell.folder.file_name().unwrap_or_default();
            let made = Group::make(&folder.to_string_lossy(), share);
            // Said where who looks at the task looks, and no reason not to run it.
            made.inspect_err(|error| {
                eprintln!("sandlot: this task's resources are not limited: {error}")
            })
            .ok()
        })
        .unzip();
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let (user, users) = (geteuid(), getegid());
    let rootless = !may_choose();
    if rootless {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).during("making namespaces")?;
    if rootless {
        // It stays who it is: there is nobody else it could be.
        fs::write("/proc/self/setgroups", "deny").during("giving up groups")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1")).during("mapping its user")?;
        fs::write("/proc/self/gid_map", format!("{users} {users} 1"))
            .during("mapping its group")?;
    }
    let (told, tell) = pipe2(OFlag::O_CLOEXEC).during("making a pipe")?;
    // SAFETY: this process has one thread, so that the child may do all that this one may.
    match unsafe { fork() }.during("forking")? {
        ForkResult::Child => {
            drop(told);
            if let Some(hold) = hold {
                hold.leave();
            }
            inside::run(cell, group.as_ref(), tell)
        }
        ForkResult::Parent { child } => {
            drop(tell);
            let ended = waitpid(child, None).during("waiting for the cell")?;
            // Here, as this process may be about to end by a signal.
            drop(hold);
            Ok(end_as(word(told.into_raw_fd()), ended))
        }
    }
}

/// What the process in the cell has told of the task's end, if it could.
fn word(told: i32) -> Option<i32> {
    // SAFETY: the reading end of the pipe, given up by its owner a moment ago.
    let mut told = unsafe { File::from_raw_fd(told) };
    let mut bytes = [0; 4];
    told.read_exact(&mut bytes).ok()?;
    Some(i32::from_ne_bytes(bytes))
}

/// Ends as the task has: with its code, or by its signal.
fn end_as(word: Option<i32>, cell: WaitStatus) -> i32 {
    let killed = match (word, cell) {
        (Some(word), _) if word >= 0 => return word,
        (Some(word), _) => Signal::try_from(-word).ok(),
        (None, WaitStatus::Exited(_, code)) => return code,
        (None, WaitStatus::Signaled(_, killer, _)) => Some(killer),
        (None, _) => None,
    };
    if let Some(killer) = killed {
        // The task has left its core, if it was to leave one; this would be another.
        let none = nix::sys::resource::Resource::RLIMIT_CORE;
        let _ = nix::sys::resource::setrlimit(none, 0, 0);
        let _ = set(killer, SigHandler::SigDfl);
        let _ = raise(killer);
        return 128 + killer as i32;
    }
    126
}

/// Sets what a signal does.
pub(super) fn set(one: Signal, what: SigHandler) -> Result<(), Failed> {
    // SAFETY: ignoring a signal, or its default, runs no code of ours.
    unsafe { signal(one, what) }
        .map(drop)
        .during(format!("setting {one}"))
}
