//! Folding SQLite's write-ahead log into the database, beside the writes.
//!
//! Left to itself, SQLite does so within a commit: every thousand pages somebody's write, and
//! all that are queued behind it, wait until megabytes have been copied.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rusqlite::Connection;

/// The log is folded in after about so many pages.
const OFTEN: usize = 1_000;
/// A log of so many pages is to begin anew. It can only when a write finds it folded to its end,
/// which under steady writes never happens by itself.
const LONG: i64 = 16_384;
const PAGE: usize = 4_096;

/// A thread that folds the log in when enough was written. It ends when this is dropped.
pub(super) struct Folding {
    /// Pages written since the thread was told.
    written: usize,
    nudges: Option<SyncSender<()>>,
    is_long: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Folding {
    /// Takes the work over from the connection that writes.
    pub(super) fn beside(writing: &Connection, path: &Path) -> Result<Self, rusqlite::Error> {
        writing.pragma_update(None, "wal_autocheckpoint", 0)?;
        let connection = Connection::open(path)?;
        // One nudge may wait while the log is being folded; more would say nothing new.
        let (nudges, nudged) = sync_channel(1);
        let is_long = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("store log".into()).spawn({
            let is_long = is_long.clone();
            move || run(&connection, &nudged, &is_long)
        });
        let thread = thread.map_err(|error| {
            let why = format!("the thread that folds the log could not start: {error}");
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(1), Some(why))
        })?;
        Ok(Folding {
            written: 0,
            nudges: Some(nudges),
            is_long,
            thread: Some(thread),
        })
    }

    /// Takes note of a commit, which wrote so many values of so many bytes in all.
    pub(super) fn committed(&mut self, writing: &Connection, values: usize, bytes: usize) {
        if self.is_long.swap(false, Ordering::AcqRel) {
            // Little is left to fold by now; the next commit then begins the log anew.
            fold(writing);
        }
        // Each value has a leaf of the table and one of its index beside its own pages.
        self.written += 2 * values + bytes / PAGE;
        if self.written >= OFTEN
            && let Some(nudges) = &self.nudges
        {
            self.written = 0;
            // Full: it is at work, and will look again.
            let _ = nudges.try_send(());
        }
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        drop(self.nudges.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that folds the store's log panicked");
        }
    }
}

fn run(connection: &Connection, nudged: &Receiver<()>, is_long: &AtomicBool) {
    while nudged.recv().is_ok() {
        let pages = fold(connection);
        if pages >= LONG {
            is_long.store(true, Ordering::Release);
        }
    }
}

/// Folds in what can be without holding anybody up; says how many pages the log has.
fn fold(connection: &Connection) -> i64 {
    let folded = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1));
    folded.unwrap_or_else(|error| {
        // Nothing is lost by it: the log is as durable as the database.
        tracing::warn!(%error, "the store's log could not be folded in: it grows until it can");
        0
    })
}
