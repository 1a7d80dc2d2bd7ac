//! How soon a thread has its turn on a processor.

use std::{io, time::Duration};

/// The shortest turn that the kernel gives.
const SHORTEST: Duration = Duration::from_micros(100);
/// How much less nice the writer is than the rest of its process, where that is allowed.
const PRESSING: i32 = 10;
const LEAST_NICE: i32 = -20;

/// Asks the kernel to let this thread, which does a little and then waits for the disk, in as soon
/// as there is something to do: by turns that are short, and so come before those who have long
/// ones, and by a greater share, which only the administrator may take. Where all processors are
/// busy that is what a write waits for most.
///
/// Linux knows of lengths of turns from 6.12 on; an older one takes no notice.
pub(crate) fn soon() -> io::Result<()> {
    // SAFETY: a number in, a number out.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    ask((nice - PRESSING).max(LEAST_NICE)).or_else(|_| ask(nice))
}

fn ask(nice: i32) -> io::Result<()> {
    // SAFETY: plain data, of which all zeros is a value, and a call that only reads it.
    unsafe {
        let mut wish: libc::sched_attr = std::mem::zeroed();
        wish.size = size_of::<libc::sched_attr>() as u32;
        wish.sched_nice = nice;
        wish.sched_runtime = SHORTEST.as_nanos() as u64;
        match libc::syscall(libc::SYS_sched_setattr, 0, &wish, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_never_made_nicer_and_others_stay_as_they_are() {
        // SAFETY: a number in, a number out.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let asked = std::thread::spawn(move || soon().map(|()| nice()));
        assert!(asked.join().unwrap().unwrap() <= before);
        assert_eq!(nice(), before);
    }
}
