//! What has been accepted and is not on disk yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    error::WriteError,
    record::{Event, Expect, Key, Range, Record},
    watch::{ABANDONED, Waiter},
};

/// A write on its way to disk.
pub(crate) struct Accepted<F> {
    /// The version it makes, or on a deletion the last state.
    pub(crate) record: Arc<Record<F>>,
    /// It removes the record.
    pub(crate) deleted: bool,
    /// Who waits for it.
    pub(crate) answer: oneshot::Sender<Result<Arc<Record<F>>, WriteError<F>>>,
    /// He is told after those who only pass on what happens.
    pub(crate) told_last: bool,
    /// Its place in the queue.
    pub(crate) room: OwnedSemaphorePermit,
}

/// What a write that is not on disk yet makes of its key.
pub(crate) struct Unsettled<F> {
    pub(crate) record: Arc<Record<F>>,
    pub(crate) deleted: bool,
}

impl<F> Unsettled<F> {
    fn of(write: &Accepted<F>) -> Self {
        Unsettled {
            record: write.record.clone(),
            deleted: write.deleted,
        }
    }
}

/// Accepted writes: what they make of the records, and their queue in revision order.
pub(crate) struct Intake<F> {
    /// The newest revision given out. It is never given out twice, not even after a failure,
    /// so that whoever saw a version that came to nothing cannot mistake another for it.
    revision: u64,
    /// The newest of each key.
    unsettled: HashMap<Key, Unsettled<F>>,
    queue: VecDeque<Accepted<F>>,
    /// What watchers will see once it is on disk, and those who run ahead see now.
    coming: VecDeque<Event<F>>,
    /// Who watches ahead of the disk.
    ahead: HashMap<u64, (Range, Arc<Waiter>)>,
    watches_begun: u64,
    /// How long a write that nobody waits for may wait.
    leisure: Duration,
    /// How long a new record may wait for what is written upon it.
    company: Duration,
    /// Until when what is queued may wait for further writes; `None` where it may not, or nothing
    /// is queued.
    at_leisure: Option<Instant>,
    closed: bool,
}

/// Who is to hear that a write was accepted.
pub(crate) struct Heard {
    /// Those who watch ahead of the disk.
    pub(crate) woken: Vec<Arc<Waiter>>,
    /// The thread that writes: it does not wait for this one yet, or no longer has time.
    pub(crate) writer: bool,
}

/// What is accepted at a key.
pub(crate) enum Newest<'a, F> {
    /// No write on its way: what is on disk counts.
    OnDisk,
    /// A write on its way makes this version, or leaves nothing.
    OnItsWay(u64, Option<&'a Arc<Record<F>>>),
}

impl<F> Intake<F> {
    pub(crate) fn new(revision: u64, leisure: Duration, company: Duration) -> Self {
        Intake {
            revision,
            unsettled: HashMap::new(),
            queue: VecDeque::new(),
            coming: VecDeque::new(),
            ahead: HashMap::new(),
            watches_begun: 0,
            leisure,
            company,
            at_leisure: None,
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

    /// The newest revision given out.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Queues a write, whose record has the next revision and follows `previous`, and for which
    /// somebody waits or not. Says who is to hear of it.
    pub(crate) fn accept(
        &mut self,
        write: Accepted<F>,
        previous: Option<Arc<Record<F>>>,
        awaited: bool,
    ) -> Heard {
        let new = previous.is_none() && !write.deleted;
        let patience = match awaited {
            false => Some(self.leisure),
            true if new && self.is_watched(&write.record.key) => Some(self.company),
            true => None,
        };
        self.at_leisure = match patience {
            Some(patience) if self.queue.is_empty() => Some(Instant::now() + patience),
            Some(_) => self.at_leisure,
            None => None,
        };
        let writer = self.at_leisure.is_none() || self.queue.is_empty();
        self.revision = write.record.revision;
        let woken = self.announce(&write.record);
        self.coming.push_back(Event {
            revision: write.record.revision,
            record: write.record.clone(),
            previous,
            deleted: write.deleted,
        });
        let key = write.record.key.clone();
        self.unsettled.insert(key, Unsettled::of(&write));
        self.queue.push_back(write);
        Heard { woken, writer }
    }

    /// Whether somebody ahead watches a key.
    fn is_watched(&self, key: &Key) -> bool {
        let mut ranges = self.ahead.values().map(|(range, _)| range);
        ranges.any(|range| range.contains(key))
    }

    /// Tells those ahead whom a write concerns.
    fn announce(&self, record: &Record<F>) -> Vec<Arc<Waiter>> {
        let concerned = self
            .ahead
            .values()
            .filter(|(range, _)| range.contains(&record.key));
        concerned
            .filter(|(_, waiter)| waiter.announce(record.revision))
            .map(|(_, waiter)| waiter.clone())
            .collect()
    }

    /// The first event in a range after a revision that is not on disk yet.
    pub(crate) fn coming(&self, range: &Range, after: u64) -> Option<&Event<F>> {
        let mut later = self.coming.iter().filter(|event| event.revision > after);
        later.find(|event| range.contains(&event.record.key))
    }

    /// Registers who watches a range ahead of the disk, from its next event on.
    pub(crate) fn watch(&mut self, range: Range, waiter: Arc<Waiter>) -> u64 {
        self.watches_begun += 1;
        self.ahead.insert(self.watches_begun, (range, waiter));
        self.watches_begun
    }

    pub(crate) fn unwatch(&mut self, id: u64) {
        self.ahead.remove(&id);
    }

    /// Until when what is queued has time.
    pub(crate) fn at_leisure_until(&self) -> Option<Instant> {
        self.at_leisure.filter(|_| !self.closed)
    }

    /// Somebody waits for what is queued after all; says whether that is news.
    pub(crate) fn hurry(&mut self) -> bool {
        self.at_leisure.take().is_some()
    }

    /// What is queued behind the first so many.
    pub(crate) fn queued_after(&self, count: usize) -> Vec<Unsettled<F>> {
        let later = self.queue.iter().skip(count);
        later.map(Unsettled::of).collect()
    }

    /// Everything queued.
    pub(crate) fn take(&mut self) -> Vec<Accepted<F>> {
        self.at_leisure = None;
        self.queue.drain(..).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A write is on disk: it needs no remembering here unless a newer one came after it.
    pub(crate) fn settle(&mut self, record: &Record<F>) {
        let is_settled = |event: &Event<F>| event.revision <= record.revision;
        while self.coming.front().is_some_and(is_settled) {
            self.coming.pop_front();
        }
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
        self.coming.clear();
        (self.take(), self.revision)
    }

    /// Ends the watches of those ahead, who have seen what came to nothing; says who is to be told.
    pub(crate) fn turn_back(&mut self) -> Vec<Arc<Waiter>> {
        let waiters = self.ahead.drain().map(|(_, (_, waiter))| waiter);
        let mut woken = Vec::new();
        for waiter in waiters {
            waiter.next.store(ABANDONED, Ordering::Release);
            woken.push(waiter);
        }
        woken
    }

    /// Nothing more will be accepted: who runs ahead has seen all there is. Says who is to be told.
    pub(crate) fn leave(&mut self) -> Vec<Arc<Waiter>> {
        let waiters = self.ahead.drain().map(|(_, (_, waiter))| waiter);
        waiters.collect()
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
