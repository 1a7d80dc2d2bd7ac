//! Writes on their way to disk, with a disk that waits for the test's word.

use std::{
    pin::Pin,
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, poll};

use super::*;
use crate::{
    Change, Config, Expect, Key, Range, Record, Store, WriteError, state::State, storage::Storage,
};

type Written = Result<Arc<Record<()>>, WriteError<()>>;
type Writing = Pin<Box<dyn Future<Output = Written> + Send>>;

/// A disk that tells of each batch and then does as it is told.
struct Gate {
    batches: mpsc::Sender<Vec<u64>>,
    outcomes: mpsc::Receiver<Result<(), Refusal>>,
}

impl Storage<()> for Gate {
    fn commit(&mut self, batch: &[Accepted<()>]) -> Result<(), Refusal> {
        let revisions = batch.iter().map(|write| write.record.revision).collect();
        // A test that has let go of the gate lets everything pass.
        let _ = self.batches.send(revisions);
        self.outcomes.recv().unwrap_or(Ok(()))
    }
}

/// The test's side of the gate.
struct Keeper {
    batches: mpsc::Receiver<Vec<u64>>,
    outcomes: mpsc::Sender<Result<(), Refusal>>,
}

impl Keeper {
    /// Waits for the next batch, and returns its revisions.
    fn batch(&self) -> Vec<u64> {
        self.batches.recv().unwrap()
    }

    fn pass(&self) {
        self.outcomes.send(Ok(())).unwrap();
    }

    fn refuse(&self) {
        self.outcomes.send(Err("disk full".into())).unwrap();
    }
}

fn gated(config: Config) -> (Store<()>, Keeper) {
    let ((batches, told), (outcomes, awaited)) = (mpsc::channel(), mpsc::channel());
    let gate = Gate {
        batches,
        outcomes: awaited,
    };
    let state = State::new(&config, 0);
    let store = Store::start(&config, state, Box::new(gate)).unwrap();
    (
        store,
        Keeper {
            batches: told,
            outcomes,
        },
    )
}

fn key(name: &str) -> Key {
    Key::new("pods", "default", name)
}

fn writing(store: &Store<()>, name: &str, expect: Expect, value: &'static str) -> Writing {
    let (store, key) = (store.clone(), key(name));
    let put = Change::put((), move |_| Bytes::from_static(value.as_bytes()));
    Box::pin(async move { store.write(key, expect, put).await })
}

/// Begins a write and takes it as far as it goes before anything is on disk.
async fn begin(store: &Store<()>, name: &str, expect: Expect) -> Writing {
    let mut writing = writing(store, name, expect, "value");
    assert!(poll!(writing.as_mut()).is_pending());
    writing
}

#[tokio::test]
async fn nothing_is_seen_before_it_is_on_disk() {
    let (store, keeper) = gated(Config::in_memory());
    let (_, mut watch) = store.list_and_watch(Range::all("pods"));
    let writing = begin(&store, "a", Expect::Absent).await;
    assert_eq!(keeper.batch(), [1]);
    assert!(store.get(&key("a")).is_none());
    assert!(store.list(&Range::all("pods")).records.is_empty());
    assert!(poll!(Box::pin(watch.next())).is_pending());
    assert_eq!((store.revision(), watch.progress()), (0, 0));
    assert_eq!(store.latest(&key("a")).unwrap().revision, 1);

    keeper.pass();
    assert_eq!(writing.await.unwrap().revision, 1);
    assert_eq!(store.get(&key("a")).unwrap().revision, 1);
    assert_eq!(watch.next().await.unwrap().unwrap().revision, 1);
    assert_eq!(store.stats().writes_in_flight, 0);
}

#[tokio::test]
async fn who_runs_ahead_sees_and_writes_before_anything_is_on_disk() {
    let (store, keeper) = gated(Config::in_memory());
    let (_, mut ahead) = store.list_and_watch_ahead(Range::all("pods"));
    let writing = begin(&store, "a", Expect::Absent).await;
    assert_eq!(keeper.batch(), [1]);
    let event = ahead.next().await.unwrap().unwrap();
    assert_eq!((event.revision, event.previous.is_none()), (1, true));
    let put = Change::put((), |_| Bytes::from_static(b"upon it"));
    let upon = store.write_ahead(key("a"), Expect::Revision(1), put);
    assert_eq!(upon.await.unwrap().revision, 2);
    let event = ahead.next().await.unwrap().unwrap();
    assert_eq!((event.revision, event.previous.unwrap().revision), (2, 1));
    assert_eq!((ahead.progress(), store.revision()), (2, 0));
    // Who begins now sees the same: nothing is listed yet, and both changes come.
    let (listing, mut late) = store.list_and_watch_ahead(Range::all("pods"));
    assert!(listing.records.is_empty());
    let mut settled = Box::pin(store.settled_so_far());
    assert!(poll!(settled.as_mut()).is_pending());

    keeper.pass();
    assert_eq!(keeper.batch(), [2]);
    keeper.pass();
    assert!(settled.await);
    assert_eq!(writing.await.unwrap().revision, 1);
    for revision in [1, 2] {
        assert_eq!(late.next().await.unwrap().unwrap().revision, revision);
    }
    assert!(poll!(Box::pin(ahead.next())).is_pending());
    assert!(poll!(Box::pin(late.next())).is_pending());
    assert_eq!(store.get(&key("a")).unwrap().revision, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_nobody_waits_for_goes_to_disk_with_the_next() {
    let (store, keeper) = gated(Config {
        leisure: Duration::from_secs(3600),
        ..Config::in_memory()
    });
    let ahead = |name| {
        let put = Change::put((), |_| Bytes::from_static(b"value"));
        store.write_ahead(key(name), Expect::Absent, put)
    };
    ahead("a").await.unwrap();
    ahead("b").await.unwrap();
    let writing = begin(&store, "c", Expect::Absent).await;
    assert_eq!(keeper.batch(), [1, 2, 3]);
    keeper.pass();
    writing.await.unwrap();
    // Somebody asks for it after all.
    ahead("d").await.unwrap();
    let settled = store.settled_so_far();
    assert_eq!(keeper.batch(), [4]);
    keeper.pass();
    assert!(settled.await);
    // Closing leaves nothing behind.
    ahead("e").await.unwrap();
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    assert_eq!(tokio::task::block_in_place(|| keeper.batch()), [5]);
    keeper.pass();
    closing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_record_that_somebody_watches_ahead_waits_for_what_he_writes_upon_it() {
    let (store, keeper) = gated(Config {
        company: Duration::from_secs(3600),
        ..Config::in_memory()
    });
    let (_, mut ahead) = store.list_and_watch_ahead(Range::all("pods"));
    let create = begin(&store, "a", Expect::Absent).await;
    assert_eq!(ahead.next().await.unwrap().unwrap().revision, 1);
    let answer = begin(&store, "a", Expect::Revision(1)).await;
    assert_eq!(keeper.batch(), [1, 2]);
    keeper.pass();
    create.await.unwrap();
    answer.await.unwrap();
    // Who must not act before it is on disk says so.
    let create = begin(&store, "b", Expect::Absent).await;
    let settled = store.settled_so_far();
    assert_eq!(keeper.batch(), [3]);
    keeper.pass();
    assert!(settled.await);
    create.await.unwrap();
    // Nobody else waits for company: a change, and what nobody watches.
    drop(ahead);
    let create = begin(&store, "c", Expect::Absent).await;
    assert_eq!(keeper.batch(), [4]);
    keeper.pass();
    create.await.unwrap();
}

type Waits<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Writes down its name when it is woken.
struct Bell(&'static str, mpsc::Sender<&'static str>);

impl std::task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        // The test may have heard enough.
        let _ = self.1.send(self.0);
    }
}

#[tokio::test]
async fn who_only_passes_it_on_is_told_before_who_works_on_it() {
    let (store, keeper) = gated(Config::in_memory());
    let (rung, rings) = mpsc::channel();
    let (_, mut near) = store.list_and_watch(Range::all("pods"));
    let (_, far) = store.list_and_watch(Range::all("pods"));
    let mut far = far.told_first();
    let write = |name: &str, change: Change<()>| {
        let (store, key) = (store.clone(), key(name));
        async move { store.write(key, Expect::Absent, change).await.map(drop) }
    };
    let put = || Change::put((), |_| Bytes::from_static(b"value"));
    // Both come to disk together, behind one that holds the disk up.
    let first = begin(&store, "a", Expect::Absent).await;
    assert_eq!(keeper.batch(), [1]);
    let mut works = Box::pin(write("b", put().told_last()));
    let mut passes = Box::pin(write("c", put()));
    assert!(poll!(works.as_mut()).is_pending() && poll!(passes.as_mut()).is_pending());
    keeper.pass();
    first.await.unwrap();
    for watch in [&mut near, &mut far] {
        assert_eq!(watch.next().await.unwrap().unwrap().revision, 1);
    }
    // The first has been told to all by now.
    assert_eq!(keeper.batch(), [2, 3]);
    let mut waiting: Vec<(_, Waits)> = vec![
        ("who works on the answer", Box::pin(works.map(drop))),
        ("who passes the answer on", Box::pin(passes.map(drop))),
        ("who works on events", Box::pin(near.next().map(drop))),
        ("who passes events on", Box::pin(far.next().map(drop))),
    ];
    for (name, waits) in &mut waiting {
        let bell = Arc::new(Bell(name, rung.clone())).into();
        let mut context = std::task::Context::from_waker(&bell);
        assert!(waits.as_mut().poll(&mut context).is_pending());
    }
    keeper.pass();
    let order: Vec<_> = (0..4).map(|_| rings.recv().unwrap()).collect();
    assert_eq!(
        order,
        [
            "who passes the answer on",
            "who passes events on",
            "who works on the answer",
            "who works on events"
        ]
    );
}

#[tokio::test]
async fn who_works_on_it_is_told_a_moment_later_or_when_more_is_to_be_written() {
    let (store, keeper) = gated(Config {
        headway: Duration::from_secs(3600),
        ..Config::in_memory()
    });
    let (rung, rings) = mpsc::channel();
    let (_, mut near) = store.list_and_watch(Range::all("pods"));
    let first = begin(&store, "a", Expect::Absent).await;
    assert_eq!(keeper.batch(), [1]);
    let mut works = Box::pin(near.next());
    let bell = Arc::new(Bell("who works on events", rung)).into();
    let mut context = std::task::Context::from_waker(&bell);
    assert!(works.as_mut().poll(&mut context).is_pending());
    keeper.pass();
    first.await.unwrap();
    assert!(rings.try_recv().is_err());
    let second = begin(&store, "b", Expect::Absent).await;
    assert_eq!(rings.recv().unwrap(), "who works on events");
    assert_eq!(works.await.unwrap().unwrap().revision, 1);
    assert_eq!(keeper.batch(), [2]);
    keeper.pass();
    second.await.unwrap();
    // Nor does it keep a store from being closed.
    tokio::time::timeout(Duration::from_secs(60), store.close())
        .await
        .unwrap();
}

#[tokio::test]
async fn who_ran_ahead_is_turned_back_when_it_comes_to_nothing() {
    let (store, keeper) = gated(Config::in_memory());
    let (_, mut ahead) = store.list_and_watch_ahead(Range::all("pods"));
    let mut turned_back = Box::pin(store.turned_back());
    let writing = begin(&store, "a", Expect::Absent).await;
    keeper.batch();
    assert_eq!(ahead.next().await.unwrap().unwrap().revision, 1);
    let put = Change::put((), |_| Bytes::new());
    let upon = store.write_ahead(key("b"), Expect::Absent, put);
    assert_eq!(upon.await.unwrap().revision, 2);
    assert!(poll!(turned_back.as_mut()).is_pending());
    let settled = store.settled_so_far();

    keeper.refuse();
    assert!(matches!(writing.await, Err(WriteError::Storage(_))));
    turned_back.await;
    assert!(!settled.await, "it is not on disk");
    assert!(ahead.next().await.unwrap().is_err());
    assert!(ahead.next().await.is_none());
    // Neither is there, for those who run ahead no more than for others.
    let (listing, mut ahead) = store.list_and_watch_ahead(Range::all("pods"));
    assert!(listing.records.is_empty());
    let writing = begin(&store, "c", Expect::Absent).await;
    assert_eq!(ahead.next().await.unwrap().unwrap().revision, 3);
    keeper.batch();
    keeper.pass();
    assert_eq!(writing.await.unwrap().revision, 3);
}

#[tokio::test]
async fn writes_that_arrive_during_a_commit_share_the_next_one() {
    let (store, keeper) = gated(Config::in_memory());
    let mut all = vec![begin(&store, "a", Expect::Absent).await];
    assert_eq!(keeper.batch(), [1]);
    for name in ["b", "c", "d"] {
        all.push(begin(&store, name, Expect::Absent).await);
    }
    keeper.pass();
    assert_eq!(keeper.batch(), [2, 3, 4]);
    keeper.pass();
    for (writing, revision) in all.into_iter().zip(1..) {
        assert_eq!(writing.await.unwrap().revision, revision);
    }
}

#[tokio::test]
async fn read_modify_write_on_the_latest_version_need_not_wait_for_the_disk() {
    let (store, keeper) = gated(Config::in_memory());
    let mut all = vec![begin(&store, "a", Expect::Absent).await];
    for _ in 0..10 {
        let latest = store.latest(&key("a")).unwrap().revision;
        all.push(begin(&store, "a", Expect::Revision(latest)).await);
    }
    drop(keeper);
    for writing in all {
        writing.await.unwrap();
    }
    assert_eq!(store.get(&key("a")).unwrap().revision, 11);
}

#[tokio::test]
async fn a_failed_commit_takes_back_all_that_was_accepted_and_the_store_goes_on() {
    let (store, keeper) = gated(Config::in_memory());
    let first = begin(&store, "a", Expect::Absent).await;
    keeper.batch();
    keeper.pass();
    first.await.unwrap();
    let (_, mut watch) = store.list_and_watch(Range::all("pods"));

    let failing = begin(&store, "a", Expect::Revision(1)).await;
    assert_eq!(keeper.batch(), [2]);
    let built_on_it = begin(&store, "a", Expect::Revision(2)).await;
    let after_it = begin(&store, "b", Expect::Absent).await;
    keeper.refuse();
    for writing in [failing, built_on_it, after_it] {
        let refused = writing.await;
        assert!(matches!(&refused, Err(WriteError::Storage(why)) if &**why == "disk full"));
    }
    assert_eq!(store.latest(&key("a")).unwrap().revision, 1);
    assert!(store.latest(&key("b")).is_none());
    assert_eq!((store.revision(), watch.progress()), (1, 1));

    let retried = begin(&store, "a", Expect::Revision(1)).await;
    keeper.pass();
    assert_eq!(
        retried.await.unwrap().revision,
        5,
        "no revision is given out twice"
    );
    let event = watch.next().await.unwrap().unwrap();
    assert_eq!((event.revision, event.previous.unwrap().revision), (5, 1));
    assert_eq!(
        (store.stats().commits, store.stats().failed_commits),
        (2, 1)
    );
}

#[tokio::test]
async fn who_lost_against_a_write_on_its_way_is_told_when_that_is_on_disk() {
    let (store, keeper) = gated(Config::in_memory());
    let winner = begin(&store, "a", Expect::Absent).await;
    let loser = begin(&store, "a", Expect::Absent).await;
    keeper.pass();
    assert!(matches!(loser.await, Err(WriteError::Exists(record)) if record.revision == 1));
    assert!(
        store.get(&key("a")).is_some(),
        "what was told of can be read"
    );
    winner.await.unwrap();
}

#[tokio::test]
async fn who_lost_against_a_write_that_failed_has_not_lost() {
    let (store, keeper) = gated(Config::in_memory());
    let failing = begin(&store, "a", Expect::Absent).await;
    let second = begin(&store, "a", Expect::Absent).await;
    keeper.refuse();
    failing.await.unwrap_err();
    keeper.pass();
    assert_eq!(second.await.unwrap().revision, 2);
}

#[tokio::test]
async fn when_the_queue_is_full_writers_wait() {
    let (store, keeper) = gated(Config {
        writes_in_flight: 2,
        ..Config::in_memory()
    });
    let first = begin(&store, "a", Expect::Absent).await;
    keeper.batch();
    let _second = begin(&store, "b", Expect::Absent).await;
    let mut third = begin(&store, "c", Expect::Absent).await;
    assert!(store.latest(&key("b")).is_some());
    assert!(store.latest(&key("c")).is_none(), "there is no room for it");
    keeper.pass();
    first.await.unwrap();
    assert!(poll!(third.as_mut()).is_pending());
    assert!(store.latest(&key("c")).is_some());
}

#[tokio::test]
async fn a_writer_that_stops_waiting_disturbs_nobody() {
    let (store, keeper) = gated(Config {
        writes_in_flight: 1,
        ..Config::in_memory()
    });
    drop(begin(&store, "a", Expect::Absent).await);
    keeper.pass();
    keeper.pass();
    let second = writing(&store, "b", Expect::Absent, "value").await.unwrap();
    assert_eq!(second.revision, 2);
    assert!(store.get(&key("a")).is_some());
}

#[tokio::test]
async fn closing_first_commits_what_was_accepted() {
    let (store, keeper) = gated(Config::in_memory());
    let first = begin(&store, "a", Expect::Absent).await;
    keeper.batch();
    let second = begin(&store, "b", Expect::Absent).await;
    let mut closing = Box::pin(store.close());
    assert!(poll!(closing.as_mut()).is_pending());
    drop(keeper.outcomes);
    closing.await;
    first.await.unwrap();
    second.await.unwrap();
}

/// A disk whose driver has a bug.
struct Broken;

impl Storage<()> for Broken {
    fn commit(&mut self, _: &[Accepted<()>]) -> Result<(), Refusal> {
        panic!("as it should in this test");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_writer_thread_that_is_gone() {
    let config = Config::in_memory();
    let store = Store::start(&config, State::new(&config, 0), Box::new(Broken)).unwrap();
    let mut watch = store.watch(Range::all("pods"), 0).unwrap();
    for name in ["a", "b"] {
        let refused = writing(&store, name, Expect::Absent, "value").await;
        assert!(matches!(refused, Err(WriteError::Closed)), "{refused:?}");
    }
    assert!(watch.next().await.is_none());
    store.close().await;
}
