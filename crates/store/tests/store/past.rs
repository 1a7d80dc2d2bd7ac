//! The past stays readable, whether memory has room for it or not.

use bytes::Bytes;
use sandlot_store::{Change, Config, Expect, Range, RevisionError, Store};

use crate::fixture::key;

const VERSIONS: u64 = 500;
const SIZE: usize = 10_000;

/// The bytes of a version: its revision, over and over.
fn version(revision: u64) -> Bytes {
    revision.to_le_bytes().repeat(SIZE / 8).into()
}

/// Writes one record over and over, and at last deletes it.
async fn write_over(store: &Store<()>) {
    let mut expect = Expect::Absent;
    for _ in 1..VERSIONS {
        let put = Change::put((), version);
        let record = store.write(key("maps/x/a"), expect, put).await.unwrap();
        expect = Expect::Revision(record.revision);
    }
    let delete = Change::delete((), version);
    store.write(key("maps/x/a"), expect, delete).await.unwrap();
}

fn small(config: Config) -> Config {
    Config {
        history_bytes: 10 * SIZE,
        ..config
    }
}

#[tokio::test]
async fn history_is_longer_than_memory_is_large() {
    let folder = tempfile::tempdir().unwrap();
    let config = small(Config::at(folder.path().join("store.db")));
    let store = Store::<()>::open(config).unwrap();
    write_over(&store).await;

    let held = store.stats().history_bytes;
    assert!(held < 100 * SIZE, "{held} bytes are still held in memory");
    let mut watch = store.watch(Range::all("maps"), 0).unwrap();
    for revision in 1..=VERSIONS {
        let event = watch.next().await.unwrap().unwrap();
        assert_eq!(event.revision, revision);
        assert_eq!(event.record.value, version(revision));
        let previous = event.previous.map(|previous| previous.value.clone());
        assert_eq!(previous, (revision > 1).then(|| version(revision - 1)));
        assert_eq!(event.deleted, revision == VERSIONS);
    }
    let then = store.page(&Range::all("maps"), None, 10, Some(7)).unwrap();
    assert_eq!(then.records[0].value, version(7));
}

#[tokio::test]
async fn without_a_place_on_disk_the_past_is_short_and_writes_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        history_folder: Some(folder.path().join("missing")),
        ..small(Config::at(folder.path().join("store.db")))
    };
    let store = Store::<()>::open(config).unwrap();
    write_over(&store).await;

    assert_eq!(store.revision(), VERSIONS);
    assert!(store.stats().history_bytes <= 10 * SIZE);
    let expired = store.watch(Range::all("maps"), 0).err();
    assert!(matches!(expired, Some(RevisionError::Expired { .. })));
}
