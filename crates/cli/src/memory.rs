//! Memory that the allocator keeps for nobody.

/// Gives back to the machine what is free: a start makes the schemas of all kinds, and what they
/// took would stay with this process for ever.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and changes nothing that anybody holds; glibc lets any thread
    // call it at any time.
    unsafe {
        libc::malloc_trim(0);
    }
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
}
