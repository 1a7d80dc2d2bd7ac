//! Memory apart from everything else of this process, for what a keeper reads.
//!
//! A fork shares each page until somebody writes to it, and whoever writes pays for a copy. The
//! supervisor goes on at once, so with every command it would pay for the pages it works on, of
//! which a keeper needs none. What it does need is laid out here, and a program may leave the
//! rest out of keepers ([`leave_heap_out`]).

use std::{
    ffi::{CStr, c_char, c_int, c_long, c_void},
    fs, io, ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Fresh pages, filled from the beginning. They go with this value.
pub(crate) struct Pages {
    start: *mut u8,
    room: usize,
    used: usize,
}

impl Pages {
    /// So many bytes of zeroes, or some more.
    pub(crate) fn new(room: usize) -> io::Result<Self> {
        const PAGE: usize = 4096;
        let room = room.next_multiple_of(PAGE);
        // SAFETY: asks for memory that nobody has yet.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                room,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            room,
            used: 0,
        })
    }

    /// Lays plain values out in a row.
    pub(crate) fn put<T: Copy>(&mut self, values: &[T]) -> io::Result<*mut T> {
        let from = self.used.next_multiple_of(align_of::<T>());
        let to = from + size_of_val(values);
        if to > self.room {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.used = to;
        // SAFETY: within the pages, aligned as they are and `from` is, and not given out before;
        // any `T` may be copied.
        unsafe {
            let place = self.start.add(from).cast::<T>();
            ptr::copy_nonoverlapping(values.as_ptr(), place, values.len());
            Ok(place)
        }
    }

    /// Lays a string out.
    pub(crate) fn string(&mut self, string: &CStr) -> io::Result<*const c_char> {
        let place = self.put(string.to_bytes_with_nul())?;
        Ok(place.cast_const().cast())
    }

    /// Their upper end.
    pub(crate) fn end(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.start.add(self.room) }.cast()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping; who was given a place in it keeps the value.
        unsafe { libc::munmap(self.start.cast(), self.room) };
    }
}

/// Where the heap begins that keepers are not given; nothing if they are given it.
static HEAP: AtomicUsize = AtomicUsize::new(0);

/// Room for what the C library keeps of the first thread at the beginning of the heap, in a
/// program that is linked with it.
const FIRST_THREAD: usize = 16 << 10;

/// Held while somebody forks, so that it is known who is given the heap.
static FORKING: Mutex<()> = Mutex::new(());

/// From now on no keeper that is forked from this process is given its heap.
///
/// It is for a program that calls this first of all and has the C library's allocator. Whatever
/// else it starts it starts [with its heap](with_heap): a child that is a copy of it would find its
/// memory missing. The standard library makes such a copy wherever the program is a mere name.
pub fn leave_heap_out() {
    #[cfg(target_env = "gnu")]
    // One heap, which grows where it is, instead of one for each thread.
    // SAFETY: sets a number in the allocator.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    if let Some(start) = heap(&maps) {
        HEAP.store(start + FIRST_THREAD, Ordering::Relaxed);
    }
}

/// Where the heap begins, from the list of what a process has mapped.
fn heap(maps: &str) -> Option<usize> {
    let line = maps.lines().find(|line| line.ends_with("[heap]"))?;
    usize::from_str_radix(line.split_once('-')?.0, 16).ok()
}

/// Does something that may fork, and whose child is to have all of this process's memory.
pub fn with_heap<T>(start: impl FnOnce() -> T) -> T {
    let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    advise(libc::MADV_DOFORK);
    start()
}

/// Says of the heap, where it is left out at all, whether the next child is given it.
fn advise(advice: c_int) {
    let start = HEAP.load(Ordering::Relaxed);
    // SAFETY: asks where the heap ends, and marks whole pages of it; what it grew by since the last
    // time is marked now. Where that fails a child has more than it needs, or as much as before.
    unsafe {
        let end = libc::sbrk(0) as usize;
        if start != 0 && end > start {
            libc::madvise(start as *mut c_void, end - start, advice);
        }
    }
}

/// Forks without the heap, if it is to be left out. As `fork`, but for what the C library does for
/// children that go on using it.
///
/// # Safety
/// The child makes only async-signal-safe calls, uses no memory but its stack, statics and
/// [`Pages`], and never returns.
pub(crate) unsafe fn fork() -> libc::pid_t {
    let _forking = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    advise(libc::MADV_DONTFORK);
    const NOTHING: c_long = 0;
    // SAFETY: no memory is shared, and the child goes on here on its copy of this stack; who calls
    // sees to the rest.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            c_long::from(libc::SIGCHLD),
            NOTHING,
            NOTHING,
            NOTHING,
            NOTHING,
        )
    };
    // A process id or -1.
    pid as libc::pid_t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_out_is_found_again_and_nothing_is_laid_out_twice() {
        let mut pages = Pages::new(4096).unwrap();
        let text = pages.string(c"seven").unwrap();
        let numbers = pages.put(&[1u64, 2, 3]).unwrap();
        let more = pages.string(c"eight").unwrap();
        // SAFETY: all three are in the pages, which are still there.
        unsafe {
            assert_eq!(CStr::from_ptr(text), c"seven");
            assert_eq!(std::slice::from_raw_parts(numbers, 3), [1, 2, 3]);
            assert_eq!(CStr::from_ptr(more), c"eight");
        }
        assert!(numbers.is_aligned());
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let mut pages = Pages::new(4096).unwrap();
        assert!(pages.put(&[0u8; 4095]).is_ok());
        let refused = pages.put(&[0u64]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        assert!(pages.put(&[0u8]).is_ok());
    }

    #[test]
    fn the_heap_is_found_among_what_is_mapped() {
        let maps = "55d0a000-55d0b000 r--p 00000000 fe:00 12  /bin/true\n\
                    55d2c000-55d4d000 rw-p 00000000 00:00 0   [heap]\n";
        assert_eq!(heap(maps), Some(0x55d2_c000));
        assert_eq!(heap("55d0a000-55d0b000 r--p 0 0 0 /bin/true\n"), None);
    }
}
