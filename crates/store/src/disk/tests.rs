//! A disk that is really full, as SQLite sees it, and one that is written to without pause.

use std::{sync::mpsc, time::Duration};

use super::*;
use crate::{Change, Config, Expect, Range, Store, WriteError, state::State};

/// A disk with room for so many pages.
fn disk(path: &Path, pages: u32) -> Disk {
    let disk = Disk::open(path).unwrap();
    disk.connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    disk
}

fn open(path: &Path, pages: u32) -> Store<()> {
    let config = Config::at(path);
    let disk = Box::new(disk(path, pages));
    Store::start(&config, State::new(&config, 0), disk).unwrap()
}

/// What a store that is opened again has: the newest revision, and each record with its own.
fn opened_again(path: &Path) -> (u64, Vec<(String, u64)>) {
    let store = Store::<()>::open(Config::at(path)).unwrap();
    let listing = store.list(&Range::all("blobs"));
    let found = listing
        .records
        .iter()
        .map(|record| (record.key.name.to_string(), record.revision));
    (store.revision(), found.collect())
}

async fn put(store: &Store<()>, name: &str) -> Result<u64, WriteError<()>> {
    let put = Change::put((), |_| Bytes::from(vec![b'x'; 10_000]));
    let written = store
        .write(Key::new("blobs", "", name), Expect::Absent, put)
        .await;
    written.map(|record| record.revision)
}

#[tokio::test]
async fn a_full_disk_fails_writes_keeps_what_there_is_and_recovers_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let store = open(&path, 40);
    let mut stored = Vec::new();
    let refused = loop {
        let name = format!("blob-{}", stored.len());
        match put(&store, &name).await {
            Ok(revision) => stored.push((name, revision)),
            Err(refused) => break refused,
        }
    };
    assert!(stored.len() > 5 && stored.len() < 40);
    assert!(
        matches!(&refused, WriteError::Storage(why) if why.contains("full")),
        "{refused}"
    );
    assert_eq!(store.list(&Range::all("blobs")).records.len(), stored.len());

    let (name, revision) = stored.remove(0);
    let delete = Change::delete((), |_| Bytes::new());
    store
        .write(
            Key::new("blobs", "", name),
            Expect::Revision(revision),
            delete,
        )
        .await
        .unwrap();
    let newest = put(&store, "late").await.unwrap();
    stored.push(("late".into(), newest));
    store.close().await;

    stored.sort();
    assert_eq!(opened_again(&path), (newest, stored));
}

/// More than twice as much is written as the log may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_while_writes_never_pause() {
    const WRITERS: usize = 16;
    const EACH: usize = 1_200;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let store = Store::<()>::open(Config::at(&path)).unwrap();
    let writing = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut expect = Expect::Absent;
            for _ in 0..EACH {
                let put = Change::put((), |_| Bytes::from(vec![b'x'; 8_000]));
                let key = Key::new("blobs", "", format!("blob-{writer}"));
                let written = store.write(key, expect, put).await.unwrap();
                expect = Expect::Revision(written.revision);
            }
        })
    });
    for writer in writing.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let log = std::fs::metadata(folder.path().join("data.db-wal")).unwrap();
    assert!(log.len() < 100 << 20, "{} bytes", log.len());
    store.close().await;
    assert!(!folder.path().join("data.db-wal").exists());
}

/// A disk that tells whether it could begin on writes that have time.
struct Told(Disk, mpsc::Sender<bool>);

impl Storage<()> for Told {
    fn begin(&mut self, writes: &[Unsettled<()>]) -> bool {
        let could = self.0.begin(writes);
        let _ = self.1.send(could);
        could
    }

    fn commit(&mut self, batch: &[Accepted<()>]) -> Result<(), Refusal> {
        self.0.commit(batch)
    }
}

/// A store whose disk has room for so many pages, and in which nothing that nobody waits for is
/// written by itself.
fn at_leisure(path: &Path, pages: u32) -> (Store<()>, mpsc::Receiver<bool>) {
    let config = Config {
        leisure: Duration::from_secs(600),
        ..Config::at(path)
    };
    let (tell, told) = mpsc::channel();
    let storage = Box::new(Told(disk(path, pages), tell));
    let store = Store::start(&config, State::new(&config, 0), storage).unwrap();
    (store, told)
}

async fn put_ahead(store: &Store<()>, name: &str, expect: Expect, bytes: usize) -> u64 {
    let put = Change::put((), move |_| Bytes::from(vec![b'y'; bytes]));
    let written = store.write_ahead(Key::new("blobs", "", name), expect, put);
    written.await.unwrap().revision
}

#[tokio::test]
async fn what_is_begun_on_is_stored_with_what_it_waits_for_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let (store, told) = at_leisure(&path, 1_000);
    let first = put_ahead(&store, "a", Expect::Absent, 10).await;
    assert!(told.recv().unwrap());
    assert!(store.list(&Range::all("blobs")).records.is_empty());
    let second = put_ahead(&store, "a", Expect::Revision(first), 20).await;
    let third = put_ahead(&store, "b", Expect::Absent, 30).await;
    let newest = put(&store, "c").await.unwrap();
    store.close().await;

    let stored = [("a", second), ("b", third), ("c", newest)];
    let stored = stored.map(|(name, revision)| (name.to_owned(), revision));
    assert_eq!(opened_again(&path), (newest, stored.to_vec()));
    let store = Store::<()>::open(Config::at(&path)).unwrap();
    let latest = store.get(&Key::new("blobs", "", "a")).unwrap();
    assert_eq!(latest.value.len(), 20);
}

#[tokio::test]
async fn where_one_cannot_be_begun_on_nothing_of_its_batch_happens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.db");
    let (store, told) = at_leisure(&path, 40);
    let kept = put(&store, "kept").await.unwrap();
    put_ahead(&store, "large", Expect::Absent, 1 << 20).await;
    assert!(!told.recv().unwrap());
    put_ahead(&store, "small", Expect::Absent, 10).await;
    let refused = put(&store, "late").await.unwrap_err();
    assert!(
        matches!(&refused, WriteError::Storage(why) if why.contains("full")),
        "{refused}"
    );
    // As many as it was asked to begin on, and no more.
    assert!(told.try_recv().is_err());
    let newest = put(&store, "later").await.unwrap();
    assert!(newest > kept);
    store.close().await;

    let stored = [("kept".to_owned(), kept), ("later".to_owned(), newest)];
    assert_eq!(opened_again(&path), (newest, stored.to_vec()));
}
