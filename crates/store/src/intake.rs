//! What has been accepted and is not on disk yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    error::WriteError,
    record::{Expect, Key, Record},
};

/// A write on its way to disk.
pub(crate) struct Accepted<F> {
    /// The version it makes, or on a deletion the last state.
    pub(crate) record: Arc<Record<F>>,
    /// It removes the record.
    pub(crate) deleted: bool,
    /// Who waits for it.
    pub(crate) answer: oneshot::Sender<Result<Arc<Record<F>>, WriteError<F>>>,
    /// Its place in the queue.
    pub(crate) room: OwnedSemaphorePermit,
}

/// The newest accepted version of a key, until it is on disk.
struct Unsettled<F> {
    record: Arc<Record<F>>,
    deleted: bool,
}

/// Accepted writes: what they make of the records, and their queue in revision order.
pub(crate) struct Intake<F> {
    /// The newest revision given out. It is never given out twice, not even after a failure,
    /// so that whoever saw a version that came to nothing cannot mistake another for it.
    revision: u64,
    unsettled: HashMap<Key, Unsettled<F>>,
    queue: VecDeque<Accepted<F>>,
    closed: bool,
}

/// What is accepted at a key.
pub(crate) enum Newest<'a, F> {
    /// No write on its way: what is on disk counts.
    OnDisk,
    /// A write on its way makes this version, or leaves nothing.
    OnItsWay(u64, Option<&'a Arc<Record<F>>>),
}

impl<F> Intake<F> {
    pub(crate) fn new(revision: u64) -> Self {
        Intake {
            revision,
            unsettled: HashMap::new(),
            queue: VecDeque::new(),
            closed: false,
        }
    }

    /// The newest accepted version at a key.
    pub(crate) fn newest(&self, key: &Key) -> Newest<'_, F> {
        self.unsettled.get(key).map_or(Newest::OnDisk, |unsettled| {
            let record = &unsettled.record;
            Newest::OnItsWay(record.revision, (!unsettled.deleted).then_some(record))
        })
    }

    /// The revision that the next accepted write has.
    pub(crate) fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// Queues a write, whose record has the next revision.
    pub(crate) fn accept(&mut self, write: Accepted<F>) {
        self.revision = write.record.revision;
        let unsettled = Unsettled {
            record: write.record.clone(),
            deleted: write.deleted,
        };
        self.unsettled.insert(write.record.key.clone(), unsettled);
        self.queue.push_back(write);
    }

    /// Everything queued.
    pub(crate) fn take(&mut self) -> Vec<Accepted<F>> {
        self.queue.drain(..).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A write is on disk: it needs no remembering here unless a newer one came after it.
    pub(crate) fn settle(&mut self, record: &Record<F>) {
        if let Newest::OnItsWay(revision, _) = self.newest(&record.key)
            && revision == record.revision
        {
            self.unsettled.remove(&record.key);
        }
    }

    /// Forgets everything accepted: what is on disk counts again. Returns what was queued, and
    /// the newest revision that came to nothing.
    pub(crate) fn abandon(&mut self) -> (Vec<Accepted<F>>, u64) {
        self.unsettled.clear();
        (self.take(), self.revision)
    }

    /// How many writes are on their way.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed
    }
}

/// Whether a write may happen, given what lives at its key.
pub(crate) fn judge<F>(
    expect: Expect,
    deleting: bool,
    current: Option<&Arc<Record<F>>>,
) -> Result<(), WriteError<F>> {
    match (expect, current) {
        (Expect::Absent, Some(current)) => Err(WriteError::Exists(current.clone())),
        (Expect::Absent, None) if deleting => Err(WriteError::Missing),
        (Expect::Absent, None) => Ok(()),
        (Expect::Revision(_), None) => Err(WriteError::Missing),
        (Expect::Revision(expected), Some(current)) if expected == current.revision => Ok(()),
        (Expect::Revision(_), Some(current)) => Err(WriteError::Conflict {
            current: current.clone(),
        }),
    }
}
