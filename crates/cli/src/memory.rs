//! Memory that this process holds and does not need any more once everything runs.

/// Gives back to the machine what only the start needed.
pub(crate) fn give_back() {
    free_heap();
    forget_program();
}

/// A start makes the schemas of all kinds, and what they took would stay with this process for
/// ever.
fn free_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and changes nothing that anybody holds; glibc lets any thread
    // call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A start runs through half of the program, and most of that never again. What is needed after
/// all comes back from the page cache when it is touched.
fn forget_program() {
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
    fn what_is_in_use_stays_as_it_is() {
        let kept: Vec<String> = (0..10_000).map(|n| format!("object {n}")).collect();
        drop(kept.clone());
        super::give_back();
        assert!(
            kept.iter()
                .enumerate()
                .all(|(n, text)| *text == format!("object {n}"))
        );
    }

    #[test]
    fn the_program_runs_on_when_its_pages_are_forgotten() {
        let before = resident_file_pages();
        super::forget_program();
        assert!(resident_file_pages() < before);
    }

    fn resident_file_pages() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssFile:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
