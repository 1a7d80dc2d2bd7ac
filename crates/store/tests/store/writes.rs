//! Writes: what they expect, and what they leave.

use bytes::Bytes;
use sandlot_store::{Change, Expect, WriteError};

use crate::fixture::{create, delete, in_memory, key, update};

#[tokio::test]
async fn a_record_is_read_back_as_it_was_written() {
    let store = in_memory();
    let written = create(&store, "pods/default/a", "one").await.unwrap();
    let read = store.get(&key("pods/default/a")).unwrap();
    assert_eq!(
        (read.revision, &read.value[..]),
        (written.revision, &b"one"[..])
    );
    assert!(store.get(&key("pods/other/a")).is_none());
}

#[tokio::test]
async fn a_version_can_contain_its_own_revision() {
    let store = in_memory();
    create(&store, "pods/default/a", "one").await.unwrap();
    let put = Change::put((), |revision| Bytes::from(revision.to_string()));
    let second = store
        .write(key("pods/default/b"), Expect::Absent, put)
        .await
        .unwrap();
    assert_eq!(&second.value[..], b"2");
    assert_eq!(second.revision, 2);
}

#[tokio::test]
async fn one_revision_counts_over_all_kinds() {
    let store = in_memory();
    for (path, revision) in [("pods/a/a", 1), ("nodes//a", 2), ("pods/b/a", 3)] {
        assert_eq!(create(&store, path, "").await.unwrap().revision, revision);
        assert_eq!(store.revision(), revision);
    }
    assert_eq!(delete(&store, "nodes//a").await.unwrap().revision, 4);
    assert_eq!(store.revision(), 4);
}

#[tokio::test]
async fn creating_twice_is_refused_with_what_is_there() {
    let store = in_memory();
    create(&store, "pods/default/a", "one").await.unwrap();
    let Err(WriteError::Exists(there)) = create(&store, "pods/default/a", "two").await else {
        panic!("was created twice")
    };
    assert_eq!(&there.value[..], b"one");
    assert_eq!(store.revision(), 1);
}

#[tokio::test]
async fn a_stale_update_is_refused_with_what_is_there() {
    let store = in_memory();
    create(&store, "pods/default/a", "one").await.unwrap();
    update(&store, "pods/default/a", "two").await.unwrap();
    let put = Change::put((), |_| Bytes::from_static(b"three"));
    let stale = store
        .write(key("pods/default/a"), Expect::Revision(1), put)
        .await;
    let Err(WriteError::Conflict { current }) = stale else {
        panic!("{stale:?}")
    };
    assert_eq!((current.revision, &current.value[..]), (2, &b"two"[..]));
}

#[tokio::test]
async fn what_is_gone_can_be_neither_changed_nor_deleted_but_created_again() {
    let store = in_memory();
    create(&store, "pods/default/a", "one").await.unwrap();
    delete(&store, "pods/default/a").await.unwrap();
    assert!(store.get(&key("pods/default/a")).is_none());
    for change in [
        Change::put((), |_| Bytes::new()),
        Change::delete((), |_| Bytes::new()),
    ] {
        let refused = store
            .write(key("pods/default/a"), Expect::Revision(1), change)
            .await;
        assert!(matches!(refused, Err(WriteError::Missing)), "{refused:?}");
    }
    assert_eq!(
        create(&store, "pods/default/a", "two")
            .await
            .unwrap()
            .revision,
        3
    );
}

#[tokio::test]
async fn of_many_who_create_the_same_record_one_wins() {
    let store = in_memory();
    let attempts = (0..50).map(|_| create(&store, "pods/default/a", "one"));
    let won = futures::future::join_all(attempts)
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_closed_store_still_answers_reads_and_refuses_writes() {
    let store = in_memory();
    create(&store, "pods/default/a", "one").await.unwrap();
    store.close().await;
    store.close().await;
    assert!(store.get(&key("pods/default/a")).is_some());
    let refused = create(&store, "pods/default/b", "two").await;
    assert!(matches!(refused, Err(WriteError::Closed)), "{refused:?}");
}

#[tokio::test]
async fn statistics_tell_what_is_held() {
    let store = in_memory();
    create(&store, "pods/default/a", "one").await.unwrap();
    create(&store, "pods/default/b", "four").await.unwrap();
    update(&store, "pods/default/a", "three").await.unwrap();
    delete(&store, "pods/default/b").await.unwrap();
    let stats = store.stats();
    assert_eq!(
        (stats.revision, stats.record_bytes, stats.history_events),
        (4, 5, 4)
    );
    assert!(stats.commits >= 1 && stats.commits <= 4);
    assert_eq!(store.counts(), [("pods".into(), 1)]);
}

#[tokio::test]
async fn who_waits_for_a_revision_goes_on_as_soon_as_it_is_there() {
    let store = in_memory();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move {
            store.settled(2).await;
            store.revision()
        }
    });
    create(&store, "maps/default/a", "one").await.unwrap();
    create(&store, "maps/default/b", "two").await.unwrap();
    assert_eq!(waiting.await.unwrap(), 2);
}
