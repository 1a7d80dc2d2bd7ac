//! What can go wrong, and what to do about it.

use std::{fmt, io, path::PathBuf, sync::Arc};

use crate::record::Record;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has the store open.
    #[error(
        "{} is in use{}: stop that process first or choose another data folder",
        path.display(),
        By(*pid)
    )]
    InUse {
        /// The database file.
        path: PathBuf,
        /// Who holds it, if the lock file says so.
        pid: Option<u32>,
    },
    /// The file or its lock could not be reached.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A newer version of this program wrote the file.
    #[error(
        "{} has format {found}, and this version knows formats up to {known}: use a newer version",
        path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The format it has.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The file is a database of some other program.
    #[error("{} is a database, but not one of Sandlot's: choose another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The database is damaged or cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// The words for who holds a lock.
struct By(Option<u32>);

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " by process {pid}"))
    }
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<F> {
    /// Nothing was expected at the key, yet something lives there.
    #[error("{} already exists", .0.key)]
    Exists(Arc<Record<F>>),
    /// A version was expected at the key, yet nothing lives there.
    #[error("nothing is stored under this key")]
    Missing,
    /// Another version than the expected one lives at the key.
    #[error("{} has changed: it is at revision {}", current.key, current.revision)]
    Conflict {
        /// The version that does.
        current: Arc<Record<F>>,
    },
    /// The disk refused. Nothing was changed; the same write may succeed later.
    #[error("the write could not be stored: {0}")]
    Storage(Arc<str>),
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
}

/// Why records cannot be seen as of some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// History no longer reaches back that far.
    #[error("revision {asked} is too old: history begins after {horizon}")]
    Expired {
        /// The revision asked for.
        asked: u64,
        /// The oldest revision that could have been asked for.
        horizon: u64,
    },
    /// No write has had that revision yet.
    #[error("revision {asked} is in the future: the newest is {newest}")]
    Future {
        /// The revision asked for.
        asked: u64,
        /// The newest revision there is.
        newest: u64,
    },
}

/// A watcher fell so far behind that history has moved past it: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watcher fell behind by more than history holds")]
pub struct Lagged;
