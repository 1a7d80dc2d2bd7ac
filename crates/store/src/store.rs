//! The store as its owners hold it.

use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    config::Config,
    disk::{Disk, Row},
    error::{OpenError, RevisionError, WriteError},
    intake::{Accepted, Intake, Newest, judge},
    overflow::Overflow,
    page::{Listing, Page},
    record::{Change, Expect, Facts, Key, Range, Record, Scope},
    state::State,
    stats::{Stats, Tally},
    storage::{Nowhere, Storage},
    watch::Watch,
    writer,
};

/// What readers, writers, watchers and the writer thread share.
///
/// Whoever holds both locks took `intake` first.
pub(crate) struct Shared<F> {
    pub(crate) state: RwLock<State<F>>,
    pub(crate) intake: Mutex<Intake<F>>,
    /// Signalled when a write is queued or the store is being closed.
    pub(crate) arrived: Condvar,
    /// How long who only passes on what happens is ahead of who works on it.
    pub(crate) headway: Duration,
    /// Places in the queue.
    pub(crate) room: Arc<Semaphore>,
    /// How far the writer has come.
    pub(crate) settled: watch::Sender<Settled>,
    pub(crate) tally: Tally,
}

/// What becomes of an accepted write.
type Answered<F> = oneshot::Receiver<Result<Arc<Record<F>>, WriteError<F>>>;

/// How far the writer has come.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settled {
    /// Every write up to this revision is on disk or has failed.
    pub(crate) through: u64,
    /// How many batches have failed.
    pub(crate) failures: u64,
}

/// A durable, revisioned, watchable store. Clones share the same store; it is closed with
/// [`Store::close`] or when the last one is dropped.
pub struct Store<F> {
    shared: Arc<Shared<F>>,
    writer: Arc<Writer<F>>,
}

impl<F> Clone for Store<F> {
    fn clone(&self) -> Self {
        Store {
            shared: self.shared.clone(),
            writer: self.writer.clone(),
        }
    }
}

/// The writer thread, which ends with the last handle.
struct Writer<F> {
    shared: Arc<Shared<F>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    path: Option<PathBuf>,
}

impl<F> Writer<F> {
    /// Commits what was accepted, leaves the disk in order and waits until that is done.
    fn finish(&self) {
        self.shared.intake.lock().close();
        self.shared.arrived.notify_all();
        // Held while joining, so that everybody who closes returns only when it is closed.
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

impl<F> Drop for Writer<F> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<F: Facts> Store<F> {
    /// Opens a store and reads it into memory. A store can be open only once.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let Some(path) = config.path.clone() else {
            return Self::start(&config, State::new(&config, 0), Box::new(Nowhere));
        };
        let disk = Disk::open(&path)?;
        let unreadable = |source| OpenError::Unreadable {
            path: path.clone(),
            source,
        };
        let mut state = State::new(&config, disk.revision().map_err(unreadable)?);
        disk.load(
            |Row {
                 key,
                 revision,
                 value,
             }| {
                let facts = F::of(&key, &value);
                state.load(Record {
                    key,
                    revision,
                    value,
                    facts,
                });
            },
        )
        .map_err(unreadable)?;
        Self::start(&config, state, Box::new(disk))
    }

    pub(crate) fn start(
        config: &Config,
        state: State<F>,
        storage: Box<dyn Storage<F>>,
    ) -> Result<Self, OpenError> {
        let revision = state.revision();
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            intake: Mutex::new(Intake::new(revision, config.leisure, config.company)),
            arrived: Condvar::new(),
            headway: config.headway,
            room: Arc::new(Semaphore::new(config.writes_in_flight)),
            settled: watch::Sender::new(Settled {
                through: revision,
                failures: 0,
            }),
            tally: Tally::default(),
        });
        let thread = thread::Builder::new().name("store".into()).spawn({
            let shared = shared.clone();
            let overflow = config.history_folder.clone().map(Overflow::new);
            move || writer::run(&shared, storage, overflow)
        });
        let path = config.path.clone();
        let thread = thread.map_err(|source: io::Error| OpenError::Io {
            path: path.clone().unwrap_or_default(),
            source,
        })?;
        let writer = Writer {
            shared: shared.clone(),
            thread: Mutex::new(Some(thread)),
            path,
        };
        Ok(Store {
            shared,
            writer: Arc::new(writer),
        })
    }

    /// The newest durable version of a record.
    pub fn get(&self, key: &Key) -> Option<Arc<Record<F>>> {
        self.shared.state.read().get(key).cloned()
    }

    /// The newest version of a record, counting writes that are still on their way to disk:
    /// what to read before a write, so that it need not wait for the one before it.
    pub fn latest(&self, key: &Key) -> Option<Arc<Record<F>>> {
        let intake = self.shared.intake.lock();
        match intake.newest(key) {
            Newest::OnItsWay(_, record) => record.cloned(),
            Newest::OnDisk => self.get(key),
        }
    }

    /// Writes a record and returns when that is on disk: the new version, or on a deletion
    /// the last state.
    ///
    /// When the caller stops waiting, the write may happen or not.
    pub async fn write(
        &self,
        key: Key,
        expect: Expect,
        change: Change<F>,
    ) -> Result<Arc<Record<F>>, WriteError<F>> {
        let (_, answer) = self.submit(key, expect, change, true).await?;
        answer.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Writes a record and returns when that is accepted: if it comes to disk, then before
    /// anything that is written later, and if not, nor does that. As nobody waits for the disk, it
    /// may go there with the next write that somebody waits for. Who acts upon it outside of the
    /// store waits until it is [settled](Self::settled), and starts over when
    /// [something came to nothing](Self::turned_back).
    pub async fn write_ahead(
        &self,
        key: Key,
        expect: Expect,
        change: Change<F>,
    ) -> Result<Arc<Record<F>>, WriteError<F>> {
        let (record, _) = self.submit(key, expect, change, false).await?;
        Ok(record)
    }

    /// Has a write accepted, for whose coming to disk somebody waits or not.
    async fn submit(
        &self,
        key: Key,
        expect: Expect,
        change: Change<F>,
        awaited: bool,
    ) -> Result<(Arc<Record<F>>, Answered<F>), WriteError<F>> {
        let room = self.shared.room.clone().acquire_owned().await;
        let room = room.map_err(|_| WriteError::Closed)?;
        let (deleting, told_last) = (change.deletes, change.told_last);
        let mut settled = self.shared.settled.subscribe();
        let (record, answered, heard) = loop {
            let (refused, by) = {
                let mut intake = self.shared.intake.lock();
                if intake.closed() {
                    return Err(WriteError::Closed);
                }
                let (current, by) = match intake.newest(&key) {
                    Newest::OnItsWay(by, current) => (current.cloned(), by),
                    Newest::OnDisk => (self.shared.state.read().get(&key).cloned(), 0),
                };
                match judge(expect, deleting, current.as_ref()) {
                    Err(refused) => (refused, by),
                    Ok(()) => {
                        let (answer, answered) = oneshot::channel();
                        let revision = intake.next_revision();
                        let record = Arc::new(Record {
                            key,
                            revision,
                            value: (change.render)(revision),
                            facts: change.facts,
                        });
                        let accepted = Accepted {
                            record: record.clone(),
                            deleted: deleting,
                            answer,
                            told_last,
                            room,
                        };
                        break (record, answered, intake.accept(accepted, current, awaited));
                    }
                }
            };
            // The answer must not speak of a version that nobody can read yet and that may
            // come to nothing, so it waits for that version.
            let failures = settled.borrow().failures;
            let Ok(now) = settled.wait_for(|settled| settled.through >= by).await else {
                return Err(WriteError::Closed);
            };
            if now.failures == failures {
                return Err(refused);
            }
        };
        if heard.writer {
            self.shared.arrived.notify_one();
        }
        for waiter in heard.woken {
            waiter.wake();
        }
        Ok((record, answered))
    }

    /// Every record of a range, ordered by key.
    pub fn list(&self, range: &Range) -> Listing<F> {
        self.shared.state.read().list(range)
    }

    /// At most `limit` records of a range, ordered by key, from the one after `after` on, as
    /// they were at revision `at`, or now.
    pub fn page(
        &self,
        range: &Range,
        after: Option<&Key>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<Page<F>, RevisionError> {
        let state = self.shared.state.read();
        state.page(range, after, limit, at.unwrap_or(state.revision()))
    }

    /// Every change in a range after a revision.
    pub fn watch(&self, range: Range, after: u64) -> Result<Watch<F>, RevisionError> {
        let registered = self.shared.state.write().watch(range, after)?;
        Ok(Watch::new(self.shared.clone(), registered))
    }

    /// Every record of a range, and every change after that.
    pub fn list_and_watch(&self, range: Range) -> (Listing<F>, Watch<F>) {
        let mut state = self.shared.state.write();
        let listing = state.list(&range);
        let registered = state.watch_from_now(Scope::Range(range));
        drop(state);
        (listing, Watch::new(self.shared.clone(), registered))
    }

    /// The same as [`watch`](Self::watch), ahead of the disk.
    pub fn watch_ahead(&self, range: Range, after: u64) -> Result<Watch<F>, RevisionError> {
        let mut intake = self.shared.intake.lock();
        let state = self.shared.state.read();
        if !(state.revision()..=intake.revision()).contains(&after) {
            state.check_revision(&range, after)?;
        }
        let registered = state.register_ahead(range, after, &mut intake);
        drop((state, intake));
        Ok(Watch::ahead(self.shared.clone(), registered))
    }

    /// Every record of a range that is on disk, and every change after that, ahead of the disk.
    pub fn list_and_watch_ahead(&self, range: Range) -> (Listing<F>, Watch<F>) {
        let mut intake = self.shared.intake.lock();
        let state = self.shared.state.read();
        let listing = state.list(&range);
        let registered = state.register_ahead(range, listing.revision, &mut intake);
        drop((state, intake));
        (listing, Watch::ahead(self.shared.clone(), registered))
    }

    /// Waits until something that was accepted comes to nothing, from now on.
    pub fn turned_back(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut settled = self.shared.settled.subscribe();
        let failures = settled.borrow_and_update().failures;
        async move {
            let failed = settled.wait_for(|settled| settled.failures > failures);
            if failed.await.is_err() {
                // The store is closed: nothing will be accepted any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Every record of every kind, ordered by key, and every change after that.
    pub fn list_and_watch_everything(&self) -> (Listing<F>, Watch<F>) {
        let mut state = self.shared.state.write();
        let listing = state.list_everything();
        let registered = state.watch_from_now(Scope::Everything);
        drop(state);
        (listing, Watch::new(self.shared.clone(), registered))
    }

    /// The newest durable revision.
    pub fn revision(&self) -> u64 {
        self.shared.state.read().revision()
    }

    /// Waits until every write up to a revision is on disk or has failed. A revision that is
    /// never given out is waited for until the store is closed.
    pub async fn settled(&self, revision: u64) {
        let mut settled = self.shared.settled.subscribe();
        // The sender lives as long as the store, and `self` is one of its handles.
        let _ = settled
            .wait_for(|settled| settled.through >= revision)
            .await;
    }

    /// Waits until every write that has been accepted by now is on disk or has failed; says
    /// whether it is on disk.
    pub fn settled_so_far(&self) -> impl Future<Output = bool> + Send + 'static {
        let mut intake = self.shared.intake.lock();
        let revision = intake.revision();
        if intake.hurry() {
            self.shared.arrived.notify_one();
        }
        // Subscribed under the lock: a batch that fails is taken back under it first.
        let mut settled = self.shared.settled.subscribe();
        let failures = settled.borrow().failures;
        drop(intake);
        async move {
            let now = settled.wait_for(|settled| settled.through >= revision);
            now.await.is_ok_and(|now| now.failures == failures)
        }
    }

    /// How many records of each kind there are.
    pub fn counts(&self) -> Vec<(Arc<str>, usize)> {
        self.shared.state.read().counts()
    }

    /// A glance at the store, for metrics.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            writes_in_flight: self.shared.intake.lock().unsettled(),
            disk_bytes: self.disk_bytes(),
            ..Stats::default()
        };
        self.shared.tally.fill(&mut stats);
        let state = self.shared.state.read();
        stats.revision = state.revision();
        stats.record_bytes = state.bytes();
        stats.history_events = state.history().len();
        stats.history_bytes = state.history().held();
        stats.watchers = state.watchers();
        stats
    }

    fn disk_bytes(&self) -> u64 {
        let path = self.writer.path.as_ref();
        path.and_then(|path| path.metadata().ok())
            .map_or(0, |file| file.len())
    }

    /// Refuses further writes, commits those accepted, ends all watches and lets go of the file.
    pub async fn close(&self) {
        let writer = self.writer.clone();
        // The join blocks, if only for one commit. It cannot panic or be aborted half way.
        let _ = tokio::task::spawn_blocking(move || writer.finish()).await;
    }
}
