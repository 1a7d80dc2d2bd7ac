//! A durable, revisioned, watchable store of records.
//!
//! Reads and watches are served from memory; a write is acknowledged, and seen by
//! readers and watchers, only once it is on disk. It knows keys, bytes and revisions,
//! and nothing of what the bytes mean.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

/// Where a record lives. Keys order by kind, then namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What sort of record this is, for example `configmaps` or `apps/deployments`.
    pub kind: Arc<str>,
    /// The namespace; empty for records that belong to none.
    pub namespace: Arc<str>,
    /// The name, unique within kind and namespace.
    pub name: Arc<str>,
}

/// What the owner of the store wants to know of a record without parsing it again.
pub trait Facts: Send + Sync + 'static {
    /// Reads the facts from a record's bytes, once, when it is written or loaded.
    fn of(key: &Key, value: &[u8]) -> Self;
}

/// One version of one record.
#[derive(Debug)]
pub struct Record<F> {
    /// Where it lives.
    pub key: Key,
    /// The revision of the write that made this version.
    pub revision: u64,
    /// The bytes as they were written.
    pub value: Bytes,
    /// What the owner wants to know without parsing.
    pub facts: F,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing lives at the key.
    Absent,
    /// Exactly this version lives at the key.
    Revision(u64),
}

/// Makes the bytes of a version, given the revision that the write will have.
pub type Render = Box<dyn FnOnce(u64) -> Bytes + Send>;

/// What a write does.
pub enum Change {
    /// Creates or replaces the record.
    Put(Render),
    /// Removes the record; the bytes are its last state, for watchers.
    Delete(Render),
}

/// Which records a list or watch is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// The kind.
    pub kind: Arc<str>,
    /// One namespace, or all of them.
    pub namespace: Option<Arc<str>>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database file; `None` keeps everything in memory.
    pub path: Option<PathBuf>,
    /// At least so many past revisions can be watched from…
    pub history_revisions: usize,
    /// …and at least those of this last while.
    pub history_age: Duration,
    /// A watcher that falls further behind than this many events is closed.
    pub watch_backlog: usize,
}
