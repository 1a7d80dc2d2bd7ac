//! What a store tells of itself, for metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A glance at a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The newest durable revision.
    pub revision: u64,
    /// How many bytes the records' values have.
    pub record_bytes: usize,
    /// How many past events can be watched from.
    pub history_events: usize,
    /// How many bytes are held only for them.
    pub history_bytes: usize,
    /// How many watches are open.
    pub watchers: usize,
    /// How many records have writes on their way to disk.
    pub writes_in_flight: usize,
    /// How many transactions were committed.
    pub commits: u64,
    /// How many transactions failed.
    pub failed_commits: u64,
    /// How long all committing took.
    pub commit_time: Duration,
    /// How big the database file is; 0 in memory.
    pub disk_bytes: u64,
}

/// Counts what the writer does.
#[derive(Default)]
pub(crate) struct Tally {
    commits: AtomicU64,
    failed: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Tally {
    /// Notes a commit that took so long and went well or not.
    pub(crate) fn commit(&self, took: Duration, ok: bool) {
        let counter = if ok { &self.commits } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Writes what was counted into a glance.
    pub(crate) fn fill(&self, stats: &mut Stats) {
        stats.commits = self.commits.load(Ordering::Relaxed);
        stats.failed_commits = self.failed.load(Ordering::Relaxed);
        stats.commit_time = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
    }
}
