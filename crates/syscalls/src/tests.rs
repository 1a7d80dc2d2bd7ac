//! What the kernel says to a thread that has taken the filter.

use std::io;

use super::{NEWEST, filter};

/// The error that a call gets behind the filter; 0 when it was let through to success. A filter is a
/// thread's own, so the thread that takes it ends with the call.
fn error_of(call: i64, arguments: [u64; 3]) -> i32 {
    let behind = std::thread::spawn(move || {
        seccompiler::apply_filter(&filter().unwrap()).unwrap();
        let [first, second, third] = arguments;
        // SAFETY: the tests below ask only for what needs no memory, or give it none.
        let result = unsafe { libc::syscall(call, first, second, third) };
        if result < 0 {
            io::Error::last_os_error().raw_os_error().unwrap()
        } else {
            0
        }
    });
    behind.join().unwrap()
}

#[test]
fn an_ordinary_call_is_let_through() {
    assert_eq!(error_of(libc::SYS_getppid, [0; 3]), 0);
    assert_eq!(error_of(libc::SYS_close, [9_999, 0, 0]), libc::EBADF);
}

#[test]
fn a_call_newer_than_the_list_does_not_exist() {
    for call in [NEWEST + 1, NEWEST + 4, 5_000] {
        assert_eq!(error_of(call, [0; 3]), libc::ENOSYS, "{call}");
    }
}

#[test]
fn a_call_with_arguments_that_no_filter_can_read_does_not_exist() {
    // Without a filter the kernel would say that the arguments make no sense.
    assert_eq!(error_of(libc::SYS_clone3, [0; 3]), libc::ENOSYS);
}

/// The same calls under other numbers, with which lists of calls have been walked around.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_by_its_second_number_does_not_exist() {
    const X32: i64 = 0x4000_0000;
    for call in [X32 + libc::SYS_mount, X32 + libc::SYS_getppid, -1] {
        assert_eq!(error_of(call, [0; 3]), libc::ENOSYS, "{call:#x}");
    }
}

#[test]
fn what_reaches_beyond_is_refused() {
    for call in [
        libc::SYS_mount,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_io_uring_setup,
    ] {
        assert_eq!(error_of(call, [0; 3]), libc::EPERM, "{call}");
    }
}

#[test]
fn some_calls_are_refused_for_what_they_are_asked() {
    let refused = [
        (libc::SYS_clone, libc::CLONE_NEWUSER as u64, 0),
        (libc::SYS_socket, libc::AF_VSOCK as u64, 1),
        (libc::SYS_socket, libc::AF_ALG as u64, 5),
        (libc::SYS_ioctl, 0, libc::TIOCSTI),
        // The kernel looks at the lower half alone, and so must we.
        (libc::SYS_ioctl, 0, libc::TIOCSTI | 1 << 40),
    ];
    for (call, first, second) in refused {
        assert_eq!(error_of(call, [first, second, 0]), libc::EPERM, "{call}");
    }
    assert_eq!(error_of(libc::SYS_ioctl, [9_999, 0, 0]), libc::EBADF);
    let plain = [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0];
    assert_eq!(error_of(libc::SYS_socket, plain), 0);
}

#[test]
fn it_is_short_enough_to_be_taken_for_each_command() {
    assert!(filter().unwrap().len() < 500);
}

#[test]
fn a_file_that_is_given_away_where_there_is_nobody_else_stays() {
    let owner = std::thread::spawn(|| {
        seccompiler::apply_filter(&super::keeping_owners().unwrap()).unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let before = file.metadata().unwrap();
        std::os::unix::fs::fchown(&file, Some(4321), Some(4321)).unwrap();
        let after = file.metadata().unwrap();
        (
            std::os::unix::fs::MetadataExt::uid(&before),
            std::os::unix::fs::MetadataExt::uid(&after),
        )
    });
    let (before, after) = owner.join().unwrap();
    assert_eq!(before, after);
}
