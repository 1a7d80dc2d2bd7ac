//! Watches: everything once, in order, from where one left off.

use std::time::Duration;

use sandlot_store::{Config, Lagged, Range, RevisionError, Store, Watch};

use crate::fixture::{create, delete, in_memory, told_all, told_event, update};

async fn next(watch: &mut Watch<()>) -> String {
    told_event(&watch.next().await.unwrap().unwrap())
}

fn small_history(revisions: usize) -> Store<()> {
    let config = Config {
        history_revisions: revisions,
        history_age: Duration::ZERO,
        ..Config::in_memory()
    };
    Store::open(config).unwrap()
}

#[tokio::test]
async fn a_watch_tells_what_changed_and_what_was_before() {
    let store = in_memory();
    let mut watch = store.watch(Range::all("pods"), 0).unwrap();
    create(&store, "pods/x/a", "one").await.unwrap();
    update(&store, "pods/x/a", "two").await.unwrap();
    delete(&store, "pods/x/a").await.unwrap();
    assert_eq!(next(&mut watch).await, "1+x/a=one[]");
    assert_eq!(next(&mut watch).await, "2+x/a=two[one]");
    assert_eq!(next(&mut watch).await, "3-x/a=gone[two]");
    assert!(futures::poll!(Box::pin(watch.next())).is_pending());
}

#[tokio::test]
async fn a_watch_keeps_to_its_range() {
    let store = in_memory();
    let mut watch = store.watch(Range::within("pods", "x"), 0).unwrap();
    for path in ["pods/y/a", "nodes/x/a", "pods/x/a"] {
        create(&store, path, "").await.unwrap();
    }
    assert_eq!(next(&mut watch).await, "3+x/a=[]");
}

#[tokio::test]
async fn a_waiting_watch_is_woken() {
    let store = in_memory();
    let mut watch = store.watch(Range::all("pods"), 0).unwrap();
    let waiting = tokio::spawn(async move { next(&mut watch).await });
    tokio::task::yield_now().await;
    create(&store, "pods/x/a", "").await.unwrap();
    assert_eq!(waiting.await.unwrap(), "1+x/a=[]");
}

#[tokio::test]
async fn a_watch_resumes_where_another_stopped() {
    let store = in_memory();
    for path in ["pods/x/a", "pods/x/b", "pods/x/c"] {
        create(&store, path, "").await.unwrap();
    }
    let mut watch = store.watch(Range::all("pods"), 1).unwrap();
    assert_eq!(next(&mut watch).await, "2+x/b=[]");
    let mut resumed = store.watch(Range::all("pods"), watch.progress()).unwrap();
    assert_eq!(next(&mut resumed).await, "3+x/c=[]");
}

#[tokio::test]
async fn listing_and_watching_leaves_no_gap() {
    let store = in_memory();
    create(&store, "pods/x/a", "").await.unwrap();
    let (listing, mut watch) = store.list_and_watch(Range::all("pods"));
    create(&store, "pods/x/b", "").await.unwrap();
    assert_eq!(
        (listing.revision, told_all(&listing.records)),
        (1, vec!["x/a=".to_owned()])
    );
    assert_eq!(next(&mut watch).await, "2+x/b=[]");
}

#[tokio::test]
async fn a_watch_of_everything_sees_all_kinds_in_one_order() {
    let store = small_history(3);
    create(&store, "pods/x/a", "").await.unwrap();
    create(&store, "nodes//a", "").await.unwrap();
    let (listing, mut watch) = store.list_and_watch_everything();
    let (_, mut slow) = store.list_and_watch_everything();
    assert_eq!(told_all(&listing.records), ["/a=", "x/a="]);
    create(&store, "secrets/y/a", "").await.unwrap();
    delete(&store, "pods/x/a").await.unwrap();
    create(&store, "pods/x/b", "").await.unwrap();
    assert_eq!(next(&mut watch).await, "3+y/a=[]");
    assert_eq!(next(&mut watch).await, "4-x/a=gone[]");
    assert_eq!(
        (next(&mut watch).await, watch.progress()),
        ("5+x/b=[]".to_owned(), 5)
    );

    create(&store, "nodes//b", "").await.unwrap();
    assert_eq!(next(&mut watch).await, "6+/b=[]");
    assert_eq!(slow.next().await.unwrap().unwrap_err(), Lagged);
    drop((watch, slow));
    assert_eq!(store.stats().watchers, 0);
}

#[tokio::test]
async fn progress_moves_on_with_what_does_not_concern_the_watcher() {
    let store = in_memory();
    let mut watch = store.watch(Range::within("pods", "x"), 0).unwrap();
    create(&store, "pods/y/a", "").await.unwrap();
    assert_eq!(watch.progress(), 1);
    create(&store, "pods/x/a", "").await.unwrap();
    create(&store, "nodes//a", "").await.unwrap();
    assert_eq!(watch.progress(), 1, "its own event is not delivered yet");
    next(&mut watch).await;
    assert_eq!(watch.progress(), 3);
}

#[tokio::test]
async fn a_watcher_that_history_has_passed_is_told_and_closed_while_others_go_on() {
    let store = small_history(3);
    let mut slow = store.watch(Range::all("pods"), 0).unwrap();
    let mut quick = store.watch(Range::all("pods"), 0).unwrap();
    for path in ["pods/x/a", "pods/x/b", "pods/x/c", "pods/x/d"] {
        create(&store, path, "").await.unwrap();
        next(&mut quick).await;
    }
    assert_eq!(slow.next().await.unwrap().unwrap_err(), Lagged);
    assert!(slow.next().await.is_none());
    create(&store, "pods/x/e", "").await.unwrap();
    assert_eq!(next(&mut quick).await, "5+x/e=[]");
}

#[tokio::test]
async fn a_quiet_watcher_is_not_passed_by_what_does_not_concern_it() {
    let store = small_history(3);
    let mut kind = store.watch(Range::all("nodes"), 0).unwrap();
    let mut namespace = store.watch(Range::within("pods", "x"), 0).unwrap();
    for name in ["a", "b", "c", "d", "e", "f"] {
        create(&store, &format!("pods/y/{name}"), "").await.unwrap();
    }
    create(&store, "nodes//a", "").await.unwrap();
    create(&store, "pods/x/a", "").await.unwrap();
    assert_eq!(next(&mut kind).await, "7+/a=[]");
    assert_eq!(next(&mut namespace).await, "8+x/a=[]");
    assert!(
        store.watch(Range::all("secrets"), 0).is_ok(),
        "no secret was ever changed"
    );
}

#[tokio::test]
async fn a_watch_from_before_history_is_expired_and_one_from_the_future_refused() {
    let store = small_history(2);
    for path in ["pods/x/a", "pods/x/b", "pods/x/c"] {
        create(&store, path, "").await.unwrap();
    }
    let watch = |after| store.watch(Range::all("pods"), after).map(|_| ());
    assert_eq!(
        watch(0),
        Err(RevisionError::Expired {
            asked: 0,
            horizon: 1
        })
    );
    assert_eq!((watch(1), watch(3)), (Ok(()), Ok(())));
    assert_eq!(
        watch(4),
        Err(RevisionError::Future {
            asked: 4,
            newest: 3
        })
    );
}

#[tokio::test]
async fn closing_the_store_ends_watches_after_their_last_event() {
    let store = in_memory();
    let mut behind = store.watch(Range::all("pods"), 0).unwrap();
    let mut idle = store.watch(Range::all("nodes"), 0).unwrap();
    let waiting = tokio::spawn(async move { idle.next().await.is_none() });
    create(&store, "pods/x/a", "").await.unwrap();
    store.close().await;
    assert_eq!(next(&mut behind).await, "1+x/a=[]");
    assert!(behind.next().await.is_none());
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_store() {
    let store = in_memory();
    let mut watch = store.watch(Range::all("pods"), 0).unwrap();
    drop(store.clone());
    create(&store, "pods/x/a", "").await.unwrap();
    drop(store);
    assert_eq!(next(&mut watch).await, "1+x/a=[]");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_dropped_watch_is_forgotten() {
    let store = in_memory();
    let watches: Vec<_> = (0..5)
        .map(|_| store.watch(Range::all("pods"), 0).unwrap())
        .collect();
    assert_eq!(store.stats().watchers, 5);
    drop(watches);
    assert_eq!(store.stats().watchers, 0);
}
