//! A disk that is really full, as SQLite sees it, and one that is written to without pause.

use super::*;
use crate::{Change, Config, Expect, Range, Store, WriteError, state::State};

fn open(path: &Path, pages: u32) -> Store<()> {
    let config = Config::at(path);
    let disk = Disk::open(path).unwrap();
    disk.connection
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    Store::start(&config, State::new(&config, 0), Box::new(disk)).unwrap()
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

    let store = Store::<()>::open(Config::at(&path)).unwrap();
    assert_eq!(store.revision(), newest);
    let listing = store.list(&Range::all("blobs"));
    let found = listing
        .records
        .iter()
        .map(|record| (record.key.name.to_string(), record.revision));
    stored.sort();
    assert_eq!(found.collect::<Vec<_>>(), stored);
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
