//! What a list answers, whole or in pages.

use std::sync::Arc;

use crate::record::Record;

/// Every record of a range at one revision, ordered by key.
#[derive(Debug)]
pub struct Listing<F> {
    /// The revision at which this was so.
    pub revision: u64,
    /// The records, ordered by key.
    pub records: Vec<Arc<Record<F>>>,
}

/// Some records of a range at one revision, ordered by key.
#[derive(Debug)]
pub struct Page<F> {
    /// The revision at which this was so; pass it on to get the next page of the same list.
    pub revision: u64,
    /// The records, ordered by key; the last one's key begins the next page.
    pub records: Vec<Arc<Record<F>>>,
    /// There are records after these.
    pub more: bool,
    /// How many.
    pub remaining: usize,
}

/// Merges two iterators that are each ordered by key into one that is.
pub(crate) fn in_key_order<'a, F: 'a>(
    left: impl Iterator<Item = &'a Arc<Record<F>>>,
    right: impl Iterator<Item = &'a Arc<Record<F>>>,
) -> impl Iterator<Item = &'a Arc<Record<F>>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(l), Some(r)) if r.key < l.key => right.next(),
        (None, _) => right.next(),
        _ => left.next(),
    })
}
