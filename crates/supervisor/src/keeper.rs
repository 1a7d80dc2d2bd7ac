//! The keeper: a small forked process between the supervisor and each command.
//!
//! It is the command's parent, so it learns the exit code even while no supervisor is there;
//! it is the subreaper of everything the command forks, so the whole tree hangs below it,
//! wherever its members flee; it holds the reading ends of the output pipes, so a command
//! outlives its supervisor without a broken pipe; and it holds a lock on its note, so that a
//! supervisor that comes back knows beyond doubt whether it is still there.
//!
//! Everything here runs between `fork` and `exec` (or never execs), possibly forked from a
//! program with threads: only async-signal-safe calls, no allocation, no panic. The memory
//! is shared with the supervisor until written to, so a keeper costs a few pages.

use std::{
    ffi::c_char,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

use libc::c_int;

use crate::{
    child::{Unstarted, spawn},
    note::{NOTE_BYTES, Note, Stage},
    outcome::Usage,
    pages,
    program::Program,
};

/// The descriptors a keeper works with. The supervisor's own copies go with the value.
pub(crate) struct Descriptors {
    /// The note, locked for as long as the keeper lives.
    pub(crate) note: OwnedFd,
    /// Rung after every change of the note; its readers' absence says that no supervisor is there.
    pub(crate) bell: OwnedFd,
    /// What the command reads.
    pub(crate) input: OwnedFd,
    /// Where the command writes; standard error last. The same terminal twice, or two pipes.
    pub(crate) outputs: [OwnedFd; 2],
    /// Where the supervisor gives its word that the command may begin, if that is to be waited for.
    pub(crate) word: Option<OwnedFd>,
    /// The reading ends of the pipes, unless there is a terminal; never read while a supervisor
    /// does.
    pub(crate) held: Option<[RawFd; 2]>,
}

/// Forks a keeper that runs `program`, and returns its process id.
pub(crate) fn fork(program: &mut Program, descriptors: &Descriptors) -> std::io::Result<i32> {
    // With all signals blocked no handler of the supervisor's runs in the child.
    let blocked = block_signals();
    // SAFETY: the child runs `keep`, which makes only async-signal-safe calls, touches no
    // lock or allocator of the parent's, has all it reads on this stack and in the program's own
    // pages, and never returns.
    let pid = unsafe { pages::fork() };
    if pid == 0 {
        keep(program, descriptors);
    }
    let forked = if pid < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(pid)
    };
    restore_signals(&blocked);
    forked
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are plain data that the calls fill before they are read.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: `before` is a set that `block_signals` got from the kernel.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut());
    }
}

/// The keeper's whole life. Its signals stay blocked: only KILL can end it early.
fn keep(program: &mut Program, descriptors: &Descriptors) -> ! {
    // SAFETY: plain system calls with valid arguments; none allocates.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"sandlot-keeper".as_ptr(), 0, 0, 0);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    let inside = program.cell.map(|cell| cell.root);
    close_all_but(descriptors, inside);
    occupy_standard_places();
    let mut note = Note {
        stage: Stage::Begun,
        // SAFETY: cannot fail.
        keeper: unsafe { libc::getpid() },
        main: 0,
        detail: 0,
        alone: false,
        started: now(),
        finished: 0,
        usage: Usage::default(),
    };
    write_note(descriptors, &note);
    match spawn(program, descriptors, &mut note) {
        Ok(()) => {
            note.stage = Stage::Running;
            publish(descriptors, &note);
            close_command_ends(descriptors, inside);
            reap_all(descriptors, &mut note);
        }
        Err(Unstarted::At(step, error)) => {
            note.stage = Stage::Failed(step);
            note.detail = error;
        }
        Err(Unstarted::Unasked) => take_back(descriptors),
    }
    note.alone = true;
    if note.finished == 0 {
        note.finished = now();
    }
    publish(descriptors, &note);
    leave(descriptors, program.rests)
}

/// Blanks the note, as it was before this keeper was there, and ends: nothing has begun.
fn take_back(descriptors: &Descriptors) -> ! {
    write_to_note(descriptors, &[0; NOTE_BYTES]);
    // SAFETY: ends the process without running anything of the supervisor's.
    unsafe { libc::_exit(0) }
}

/// Waits for the main process and then for all it left behind.
fn reap_all(descriptors: &Descriptors, note: &mut Note) {
    loop {
        let mut status = 0;
        // SAFETY: `used` and `status` are plain data that the call fills.
        let (pid, used) = unsafe {
            let mut used: libc::rusage = std::mem::zeroed();
            (
                retry(|| libc::wait4(-1, &mut status, 0, &mut used) as isize),
                used,
            )
        };
        if pid < 0 {
            return;
        }
        if pid == note.main as isize && note.stage == Stage::Running {
            note.stage = Stage::Ended;
            note.detail = status;
            note.finished = now();
            note.usage = usage(&used);
            publish(descriptors, note);
        }
    }
}

/// Stays until everything written was read, or saves it when no supervisor is there to read.
fn leave(descriptors: &Descriptors, rests: [*const c_char; 2]) -> ! {
    if let Some(held) = descriptors.held {
        while held.iter().any(|pipe| unread(*pipe) > 0) {
            // A supervisor that comes back takes the same lock while it opens the bell, so
            // either it is seen here or it finds the rest saved.
            // SAFETY: plain system calls on open descriptors.
            unsafe { libc::flock(descriptors.bell.as_raw_fd(), libc::LOCK_EX) };
            if !is_heard(&descriptors.bell) {
                save_rest(held[0], rests[0]);
                save_rest(held[1], rests[1]);
                break;
            }
            // SAFETY: as above; waiting for no descriptor is a short sleep.
            unsafe {
                libc::flock(descriptors.bell.as_raw_fd(), libc::LOCK_UN);
                libc::poll(ptr::null_mut(), 0, 2);
            }
        }
    }
    // SAFETY: ends the process without running anything of the supervisor's.
    unsafe { libc::_exit(0) }
}

/// Few runs ever need the file for a pipe's rest, so it is made only here.
fn save_rest(pipe: RawFd, rest: *const c_char) {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a path that was laid out before the fork.
    let rest = unsafe { libc::open(rest, flags, 0o600) };
    // SAFETY: open descriptors; the flags keep the call from waiting.
    let step = || unsafe {
        libc::splice(
            pipe,
            ptr::null_mut(),
            rest,
            ptr::null_mut(),
            1 << 20,
            libc::SPLICE_F_NONBLOCK,
        )
    };
    while retry(step) > 0 {}
}

fn unread(pipe: RawFd) -> c_int {
    let mut bytes = 0;
    // SAFETY: FIONREAD writes one integer.
    if unsafe { libc::ioctl(pipe, libc::FIONREAD, &mut bytes) } == 0 {
        bytes
    } else {
        0
    }
}

/// Whether a supervisor has the bell's other end open.
fn is_heard(bell: &OwnedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: bell.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one descriptor, no waiting.
    unsafe { libc::poll(&mut poll, 1, 0) };
    poll.revents & libc::POLLERR == 0
}

fn publish(descriptors: &Descriptors, note: &Note) {
    write_note(descriptors, note);
    // Ringing without a listener fails, which is fine: who comes back reads the note first.
    // SAFETY: one byte from a static; the pipe does not block, and SIGPIPE is blocked.
    unsafe { libc::write(descriptors.bell.as_raw_fd(), c"!".as_ptr().cast(), 1) };
}

pub(crate) fn write_note(descriptors: &Descriptors, note: &Note) {
    write_to_note(descriptors, &note.bytes());
}

fn write_to_note(descriptors: &Descriptors, bytes: &[u8; NOTE_BYTES]) {
    // SAFETY: the bytes live on this stack.
    retry(|| unsafe {
        libc::pwrite(
            descriptors.note.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
        )
    });
}

/// Closes what the supervisor had open: its sockets must not live on here.
fn close_all_but(descriptors: &Descriptors, inside: Option<RawFd>) {
    let mut kept: [RawFd; 9] = [-1; 9];
    let [output, errors] = &descriptors.outputs;
    kept[0] = descriptors.note.as_raw_fd();
    kept[1] = descriptors.bell.as_raw_fd();
    kept[2] = descriptors.input.as_raw_fd();
    kept[3] = output.as_raw_fd();
    kept[4] = errors.as_raw_fd();
    if let Some(held) = descriptors.held {
        kept[5..7].copy_from_slice(&held);
    }
    kept[7] = inside.unwrap_or(-1);
    kept[8] = descriptors.word.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    kept.sort_unstable();
    let mut from = 0;
    for fd in kept.into_iter().filter(|fd| *fd >= 0) {
        close_between(from, fd - 1);
        from = fd + 1;
    }
    close_between(from, RawFd::MAX);
}

/// Puts something harmless in places 0 to 2, so that nothing opened later gets a number that
/// the command's own input and output will take.
fn occupy_standard_places() {
    for _ in 0..3 {
        // SAFETY: a constant path; the lowest free numbers are taken in turn.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    }
}

fn close_between(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    // SAFETY: closing descriptors this process no longer uses.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        // Kernels before 5.9: one by one, up to a limit that no agent comes near.
        (first..=last.min(4096)).for_each(|fd| {
            libc::close(fd);
        });
    }
}

/// After the start, only the command holds the writing ends, so their end can be seen.
fn close_command_ends(descriptors: &Descriptors, inside: Option<RawFd>) {
    let [output, errors] = &descriptors.outputs;
    let own = [
        descriptors.input.as_raw_fd(),
        output.as_raw_fd(),
        errors.as_raw_fd(),
    ];
    let word = descriptors.word.as_ref().map(AsRawFd::as_raw_fd);
    for fd in own.into_iter().chain(inside).chain(word) {
        // SAFETY: this process never returns into code that owns these.
        unsafe { libc::close(fd) };
    }
}

fn usage(used: &libc::rusage) -> Usage {
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.unsigned_abs())
            + Duration::from_micros(t.tv_usec.unsigned_abs())
    };
    Usage {
        user: time(used.ru_utime),
        system: time(used.ru_stime),
        peak_memory: used.ru_maxrss.unsigned_abs().saturating_mul(1024),
        read: used.ru_inblock.unsigned_abs().saturating_mul(512),
        written: used.ru_oublock.unsigned_abs().saturating_mul(512),
    }
}

fn now() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills the value given.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut time) };
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

pub(crate) fn errno() -> i32 {
    // SAFETY: the calling thread's own error number.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn retry(mut call: impl FnMut() -> isize) -> isize {
    loop {
        let result = call();
        if result >= 0 || errno() != libc::EINTR {
            return result;
        }
    }
}
