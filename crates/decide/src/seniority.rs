//! Who came first.

use jiff::Timestamp;

/// Orders objects by when they were made.
///
/// Kubernetes writes creation times in whole seconds, so two objects of one second are told apart
/// by the revision at which each was first seen: the one made first has the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seniority {
    /// When it was made.
    pub at: Timestamp,
    /// The revision at which it was first seen.
    pub revision: u64,
}
