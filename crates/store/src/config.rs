//! How a store is opened.

use std::{path::PathBuf, time::Duration};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database file; `None` keeps everything in memory.
    pub path: Option<PathBuf>,
    /// At least so many past revisions can be watched from and read at…
    pub history_revisions: usize,
    /// …and at least those of this last while…
    pub history_age: Duration,
    /// …as long as they are no more than so many.
    pub history_most: usize,
    /// What only history still holds takes so many bytes of memory…
    pub history_bytes: usize,
    /// …and beyond that lies in files without a name in this folder; `None` forgets it.
    pub history_folder: Option<PathBuf>,
    /// These files have at most so many bytes.
    pub history_disk_bytes: u64,
    /// So many writes may be on their way to disk; further ones wait.
    pub writes_in_flight: usize,
    /// A write that nobody waits for may wait so long for one that somebody does: both then come to
    /// disk together.
    pub leisure: Duration,
    /// A new record that somebody watches ahead of the disk may wait so long for what he writes
    /// upon it, for the same reason.
    pub company: Duration,
    /// Who only passes on what happens is told so long before who works on it, unless further
    /// writes wait: of threads that share the processors, one that works would keep them.
    pub headway: Duration,
}

impl Config {
    /// A store that lives in this file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Config {
            history_folder: path.parent().map(PathBuf::from),
            path: Some(path),
            ..Config::in_memory()
        }
    }

    /// A store that ends with the process.
    pub fn in_memory() -> Self {
        Config {
            path: None,
            history_revisions: 10_000,
            history_age: Duration::from_secs(5 * 60),
            history_most: 500_000,
            history_bytes: 64 << 20,
            history_folder: None,
            history_disk_bytes: 4 << 30,
            writes_in_flight: 1024,
            leisure: Duration::from_millis(1),
            company: Duration::from_millis(2),
            headway: Duration::from_micros(150),
        }
    }
}
