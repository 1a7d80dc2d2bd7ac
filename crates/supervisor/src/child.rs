//! The command's process, from its first instruction to `exec`.
//!
//! It borrows the keeper's memory, and the keeper waits, until it execs or gives up: no page is
//! copied, and what it writes down on the way the keeper finds written. The rules are the
//! keeper's: only async-signal-safe calls, no allocation, no panic.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    ptr,
};

use libc::{c_int, c_void};

use crate::{
    keeper::{Descriptors, errno, retry, write_note},
    note::{Note, Step},
    program::{Cell, Program, Signals},
};

/// What the child is given, and what it leaves when it cannot become the command.
struct Birth<'a> {
    program: &'a mut Program,
    descriptors: &'a Descriptors,
    note: &'a mut Note,
    failure: Option<Unstarted>,
}

/// Why a process did not become the command.
#[derive(Clone, Copy)]
pub(crate) enum Unstarted {
    /// What it could not do, and the error's number.
    At(Step, i32),
    /// The supervisor never gave its word.
    Unasked,
}

/// Starts the command; an error says what failed and its number. The command's process id is
/// noted before any of its code runs, so there is never one that a supervisor could not find.
pub(crate) fn spawn(
    program: &mut Program,
    descriptors: &Descriptors,
    note: &mut Note,
) -> Result<(), Unstarted> {
    let stack = program.stack();
    let mut birth = Birth {
        program,
        descriptors,
        note,
        failure: None,
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: `stack` is the upper end of memory that nobody else uses and that outlives the
    // call; this process has one thread, which the kernel holds here until the child has left
    // its memory, so `birth` is never used by both at once.
    let pid = unsafe { libc::clone(born, stack, flags, (&raw mut birth).cast::<c_void>()) };
    if pid < 0 {
        return Err(Unstarted::At(Step::Fork, errno()));
    }
    let Some(failure) = birth.failure else {
        // As the child has noted already, but for where a program that plays another processor gives
        // it a copy of the memory.
        birth.note.main = pid;
        return Ok(());
    };
    // SAFETY: waits for the child that was just made, which is ending.
    retry(|| unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } as isize);
    birth.note.main = 0;
    Err(failure)
}

/// The child's whole life, unless it becomes the command.
extern "C" fn born(birth: *mut c_void) -> c_int {
    // SAFETY: the `Birth` of the keeper, which is held until this process execs or ends.
    let birth = unsafe { &mut *birth.cast::<Birth<'_>>() };
    // SAFETY: cannot fail.
    birth.note.main = unsafe { libc::getpid() };
    write_note(birth.descriptors, birth.note);
    birth.failure = Some(become_command(birth.program, birth.descriptors));
    127
}

/// Turns this process into the command. Returns only on failure.
fn become_command(program: &mut Program, descriptors: &Descriptors) -> Unstarted {
    let [output, errors] = &descriptors.outputs;
    // SAFETY: plain system calls on open descriptors and on strings made before the fork.
    unsafe {
        libc::setsid();
        if descriptors.held.is_none() && libc::ioctl(output.as_raw_fd(), libc::TIOCSCTTY, 0) != 0 {
            return Unstarted::At(Step::Terminal, errno());
        }
        libc::dup2(descriptors.input.as_raw_fd(), 0);
        libc::dup2(output.as_raw_fd(), 1);
        libc::dup2(errors.as_raw_fd(), 2);
        if let Some(cell) = &program.cell
            && !enter(cell)
        {
            return Unstarted::At(Step::Enter, errno());
        }
        if let Some(user) = &program.identity {
            // Not through the C library, which would look for other threads to change too.
            if libc::syscall(libc::SYS_setgroups, user.group_count, user.groups) != 0
                || libc::syscall(libc::SYS_setgid, user.gid) != 0
                || libc::syscall(libc::SYS_setuid, user.uid) != 0
            {
                return Unstarted::At(Step::User, errno());
            }
        }
        if let Some(directory) = program.directory
            && libc::chdir(directory) != 0
        {
            return Unstarted::At(Step::Directory, errno());
        }
        libc::umask(0o022);
        reset_signals(program.ignored);
    }
    if let Some(word) = &descriptors.word
        && !was_given(word)
    {
        return Unstarted::Unasked;
    }
    Unstarted::At(Step::Exec, exec(program))
}

/// Waits for the supervisor's word; false when it went without giving it.
fn was_given(word: &OwnedFd) -> bool {
    let mut byte = 0u8;
    // SAFETY: one byte into this stack, from an open pipe.
    let heard = || unsafe { libc::read(word.as_raw_fd(), (&raw mut byte).cast(), 1) };
    retry(heard) == 1
}

/// Makes the other container's files all there are, and gives up what nobody there may do: what
/// it takes to look into other processes must not reach the command.
fn enter(cell: &Cell) -> bool {
    // SAFETY: plain system calls on an open descriptor and constants.
    unsafe {
        if libc::fchdir(cell.root) != 0
            || libc::chroot(c".".as_ptr()) != 0
            || libc::chdir(c"/".as_ptr()) != 0
        {
            return false;
        }
        for capability in 0..u64::BITS {
            let known = libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) == 1;
            if known
                && cell.capabilities & (1 << capability) == 0
                && libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0
            {
                return false;
            }
        }
    }
    inherit_only(cell.capabilities)
}

/// Takes what is not among these capabilities out of those that a program inherits.
fn inherit_only(capabilities: u64) -> bool {
    /// The kernel's `_LINUX_CAPABILITY_VERSION_3`.
    const VERSION: u32 = 0x2008_0522;
    let mut header = [VERSION, 0];
    // Effective, permitted and inheritable, for the lower half and then for the upper.
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: the kernel's own layout, on this stack; constants otherwise.
    unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) != 0 {
            return false;
        }
        // The lower half, then the upper.
        sets[0][2] &= capabilities as u32;
        sets[1][2] &= (capabilities >> 32) as u32;
        libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) == 0
    }
}

/// Tries each place the program may be in. Returns the most telling error.
fn exec(program: &mut Program) -> i32 {
    let mut found = libc::ENOENT;
    let mut index = 0;
    while let Some(path) = program.candidates.get(index) {
        index += 1;
        // SAFETY: path, arguments and environment are NUL-terminated and outlive the call.
        unsafe { libc::execve(path, program.argv.as_ptr(), program.env.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => found = libc::EACCES,
            // A script without a first line that names its interpreter: what a shell does.
            libc::ENOEXEC => {
                program.shell_argv.set_second(path);
                // SAFETY: as above.
                unsafe {
                    libc::execve(
                        c"/bin/sh".as_ptr(),
                        program.shell_argv.as_ptr(),
                        program.env.as_ptr(),
                    )
                };
                return libc::ENOEXEC;
            }
            other => return other,
        }
    }
    found
}

/// Gives the command the signals every program starts with. `exec` itself takes handlers away, but
/// goes on ignoring what was ignored.
fn reset_signals(ignored: Signals) {
    for signal in ignored.each() {
        // SAFETY: setting a disposition to its default; those that cannot be set refuse.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is filled before it is used.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}
