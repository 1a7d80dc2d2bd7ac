//! In the cell: process 1, which furnishes it and waits, and its child, which becomes the task.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, exit},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigHandler, Signal},
        wait::{WaitStatus, wait},
    },
    unistd::{ForkResult, Gid, Pid, Uid, chdir, fork, setgid, setgroups, sethostname, setuid},
};

use super::{
    Cell, During, Failed,
    limits::{self, Group},
    outside::set,
    view,
};
use crate::files::give;

/// Furnishes the cell, runs the task in it and tells how it ended. With this process everything
/// in the cell ends.
pub(super) fn run(cell: &Cell, group: Option<&Group>, tell: OwnedFd) -> ! {
    let word = match live(cell, group) {
        Ok(word) => word,
        Err(failed) => {
            eprintln!("{failed}");
            126
        }
    };
    let mut tell = File::from(tell);
    // Nobody reads it any more where the process beside was killed.
    let _ = tell.write_all(&word.to_ne_bytes());
    exit(0)
}

/// The task's code, or its signal as a number below zero.
fn live(cell: &Cell, group: Option<&Group>) -> Result<i32, Failed> {
    // Without the process beside it nobody would ever end it.
    prctl::set_pdeathsig(Signal::SIGKILL).during("tying it to its agent")?;
    if let Some(group) = group {
        group.enter().during("limiting its resources")?;
    }
    if let Some(user) = &cell.user {
        give(&cell.folder, user.uid, user.gid).during("giving the task its folder")?;
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o1777);
        fs::set_permissions(&cell.shared, open).during("opening the group's folder")?;
    }
    view::build(cell)?;
    // Where even this is not allowed, the name stays the robot's.
    let _ = sethostname("task");
    // SAFETY: this process has one thread, so that the child may do all that this one may.
    match unsafe { fork() }.during("forking")? {
        ForkResult::Child => {
            let code = become_task(cell).unwrap_or_else(|failed| {
                eprintln!("{failed}");
                126
            });
            exit(code)
        }
        ForkResult::Parent { child } => Ok(reap_until(child)),
    }
}

/// Waits for everything that ends in the cell, until the task has.
fn reap_until(task: Pid) -> i32 {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == task => return code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == task => return -(signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 126,
        }
    }
}

/// Gives up everything that a task needs not, and becomes it; or says with which code a program
/// that cannot be started ends, as shells do.
fn become_task(cell: &Cell) -> Result<i32, Failed> {
    for one in Signal::iterator() {
        // KILL and STOP cannot be set, and need not be.
        let _ = set(one, SigHandler::SigDfl);
    }
    for right in 0..64 {
        // SAFETY: constants only; refused for rights that the kernel does not know.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) };
    }
    if let Some(user) = &cell.user {
        let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).during("setting its groups")?;
        setgid(Gid::from_raw(user.gid)).during("setting its group")?;
        setuid(Uid::from_raw(user.uid)).during("setting its user")?;
    }
    prctl::set_no_new_privs().during("giving up new rights")?;
    chdir(&cell.folder).during("going to its folder")?;
    let (program, arguments) = cell
        .argv
        .split_first()
        .ok_or("there is none")
        .during("looking for a program")?;
    limits::bound_processes().during("limiting its processes")?;
    let filter = sandlot_syscalls::filter().during("choosing system calls")?;
    seccompiler::apply_filter(&filter).during("restricting system calls")?;
    let error = Command::new(program).args(arguments).exec();
    eprintln!("{program}: {error}");
    Ok(match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    })
}
