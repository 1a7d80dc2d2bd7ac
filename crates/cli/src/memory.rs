//! Where this process has its memory from, and what of it a start gives back.

/// Objects are trees of short strings, made, copied and dropped by several threads: with the
/// system's allocator that is a sixth of what a write costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator's number for `mi_option_purge_delay`, how long it holds on to pages that became
/// free; its bindings do not name it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has pages go back to the system as soon as they are free. The allocator waits for a while, and
/// then for the thread that freed them to come by again: one that has read ten thousand objects and
/// has nothing more to do never comes.
pub(crate) fn hold_on_to_nothing() {
    // SAFETY: sets a number that the allocator reads when it needs it.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

/// A start runs through half of the program, and most of that never again. What is needed after
/// all comes back from the page cache when it is touched.
pub(crate) fn forget_program() {
    // SAFETY: `forget` is what the loader expects and keeps nothing that it is shown.
    unsafe {
        libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut());
    }
}

/// Unmaps the pages of one loaded object's segments that nothing ever writes to; the first object
/// is the program itself, and the only one.
///
/// # Safety
/// `object` is what the loader tells about something that is loaded and stays so.
unsafe extern "C" fn forget(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader shows an object that is valid during the call.
    let object = unsafe { &*object };
    // SAFETY: the headers are as many as the loader says, and are never written to.
    let headers =
        unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    let untouched = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0
    };
    for segment in headers.iter().filter(untouched) {
        let start = (object.dlpi_addr + segment.p_vaddr) & !0xfff;
        let end = object.dlpi_addr + segment.p_vaddr + segment.p_memsz;
        // SAFETY: the pages belong to this segment alone, are mapped from the program's file and
        // are as the file has them, since the segment is not writable: read again, they are the
        // same. Failure leaves them as they are.
        unsafe {
            libc::madvise(
                start as *mut libc::c_void,
                (end - start) as usize,
                libc::MADV_DONTNEED,
            );
        }
    }
    // Anything but zero ends the walk.
    1
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_runs_on_when_its_pages_are_forgotten() {
        let before = resident_file_pages();
        super::forget_program();
        assert!(resident_file_pages() < before);
    }

    /// Sixty MiB, so that what other tests allocate meanwhile makes no difference.
    #[test]
    fn what_is_free_goes_back_at_once() {
        super::hold_on_to_nothing();
        let full: Vec<Vec<u8>> = (0..2_000).map(|_| vec![1; 32 << 10]).collect();
        let before = resident("RssAnon:");
        drop(full);
        assert!(resident("RssAnon:") + (32 << 10) < before);
    }

    fn resident_file_pages() -> u64 {
        resident("RssFile:")
    }

    /// In KiB.
    fn resident(kind: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(kind))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
