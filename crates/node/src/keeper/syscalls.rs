//! The system calls that no crate here wraps: mounts by descriptor, safe path
//! resolution, forks into new namespaces.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Forks this process, which must have a single thread, into new namespaces.
///
/// Zero comes back in the child.
pub(crate) fn fork_into(namespaces: c_int) -> io::Result<libc::pid_t> {
    // SAFETY: with no stack given, clone behaves as fork. The keeper and the zygote
    // are single-threaded from their first instruction, so no lock is left held.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            namespaces as libc::c_long | libc::SIGCHLD as libc::c_long,
            0,
            0,
            0,
            0,
        )
    };
    if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(pid as libc::pid_t)
    }
}

/// Room for the frames of [`aside`] and of all that it forks.
const ASIDE: usize = 4 << 20;
/// The lowest part of it, which nobody may touch.
const GUARD: usize = 1 << 16;

/// Does something in a process of its own that borrows this one's memory, and waits until
/// it ends. What that process enters, this one stays out of; and it costs no copy of the memory.
///
/// This process must have a single thread. `work` takes files by reference: the other process
/// has files of its own, and what it closes is still open here.
pub(crate) fn aside(mut work: &mut dyn FnMut()) -> io::Result<()> {
    extern "C" fn begin(work: *mut c_void) -> c_int {
        // SAFETY: it is the pointer that `aside` gave, which waits for us.
        let work = unsafe { &mut *work.cast::<&mut dyn FnMut()>() };
        work();
        0
    }
    let stack = Stack::new()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is ours alone and the pointer is good for as long as the other process
    // runs, since this one stands still until then.
    let pid = unsafe { libc::clone(begin, stack.top(), flags, (&raw mut work).cast()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
    Ok(())
}

struct Stack(*mut c_void);

impl Stack {
    fn new() -> io::Result<Stack> {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
        );
        // SAFETY: new memory, wherever the kernel has room.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), ASIDE, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack(start);
        // SAFETY: the beginning of the memory that was just made.
        if unsafe { libc::mprotect(stack.0, GUARD, libc::PROT_NONE) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the same piece of memory; stacks grow down from there.
        unsafe { self.0.byte_add(ASIDE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: nobody runs on it any more.
        unsafe { libc::munmap(self.0, ASIDE) };
    }
}

/// Leaves at once, running nothing that was meant for the parent.
pub(crate) fn leave(code: c_int) -> ! {
    // SAFETY: _exit never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path with a NUL byte"))
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A detached copy of what is mounted at `path` (below `at` when given).
pub(crate) fn open_tree(
    at: Option<BorrowedFd<'_>>,
    path: &Path,
    recursive: bool,
) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    let at = at.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd());
    // SAFETY: the path is a valid C string for the length of the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) })
}

/// Attaches a detached mount onto an open file or folder.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> io::Result<()> {
    const FROM_EMPTY: u32 = 0x4;
    const TO_EMPTY: u32 = 0x40;
    // SAFETY: both names are empty C strings; the descriptors are open.
    done(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            onto.as_raw_fd(),
            c"".as_ptr(),
            FROM_EMPTY | TO_EMPTY,
        )
    })
}

/// Changes attributes of a mount; with a user namespace, whose users it shows.
pub(crate) fn set_mount(
    mount: BorrowedFd<'_>,
    attributes: u64,
    users: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> io::Result<()> {
    const ID_MAP: u64 = 0x0010_0000;
    // SAFETY: mount_attr is plain numbers, for which zero is a value.
    let mut wanted: libc::mount_attr = unsafe { std::mem::zeroed() };
    wanted.attr_set = attributes;
    if let Some(users) = users {
        wanted.attr_set |= ID_MAP;
        wanted.userns_fd = users.as_raw_fd() as u64;
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the structure outlives the call and its true size is given.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &wanted,
            std::mem::size_of::<libc::mount_attr>(),
        )
    })
}

/// How far a path may lead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// Every step stays below the folder; one that leaves is an error.
    Beneath,
    /// The folder is `/` for the path, symbolic links included.
    Root,
}

/// Opens a path below a folder without ever leaving it.
pub(crate) fn open_within(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: c_int,
    within: Within,
) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: open_how is plain numbers, for which zero is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_MAGICLINKS
        | match within {
            Within::Beneath => libc::RESOLVE_BENEATH,
            Within::Root => libc::RESOLVE_IN_ROOT,
        };
    // SAFETY: the path and the structure outlive the call and the true size is given.
    owned(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            folder.as_raw_fd(),
            path.as_ptr(),
            &how,
            std::mem::size_of::<libc::open_how>(),
        )
    })
}

/// A descriptor that stands for a process, whatever becomes of its number.
pub(crate) fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Marks every open file above the standard ones as closed by `exec`.
pub(crate) fn close_all_on_exec() {
    // SAFETY: only sets a flag on descriptors. Kernels without the call close what
    // carries the flag already, which is everything this program opens.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}
