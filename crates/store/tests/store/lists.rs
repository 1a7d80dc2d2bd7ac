//! Lists and pages: consistent, ordered, also in the past.

use sandlot_store::{Config, Range, RevisionError, Store};

use crate::fixture::{create, delete, in_memory, key, told_all, update};

#[tokio::test]
async fn a_list_is_ordered_and_keeps_to_its_range() {
    let store = in_memory();
    for path in [
        "pods/b/a",
        "pods/a/b",
        "podsets/a/a",
        "pod/a/a",
        "pods/a/a",
        "pods/a-b/a",
    ] {
        create(&store, path, "").await.unwrap();
    }
    let all = store.list(&Range::all("pods"));
    assert_eq!(told_all(&all.records), ["a/a=", "a/b=", "a-b/a=", "b/a="]);
    assert_eq!(all.revision, 6);
    assert_eq!(
        told_all(&store.list(&Range::within("pods", "a")).records),
        ["a/a=", "a/b="]
    );
    assert!(store.list(&Range::within("pods", "")).records.is_empty());
    assert!(store.list(&Range::all("nodes")).records.is_empty());
}

#[tokio::test]
async fn pages_show_one_moment_whatever_happens_between_them() {
    let store = in_memory();
    for path in ["pods/x/a", "pods/x/b", "pods/x/c", "pods/x/d", "pods/x/e"] {
        create(&store, path, "1").await.unwrap();
    }
    let range = Range::within("pods", "x");
    let first = store.page(&range, None, 2, None).unwrap();
    assert_eq!(told_all(&first.records), ["x/a=1", "x/b=1"]);
    assert_eq!((first.revision, first.more, first.remaining), (5, true, 3));

    delete(&store, "pods/x/c").await.unwrap();
    update(&store, "pods/x/d", "2").await.unwrap();
    update(&store, "pods/x/d", "3").await.unwrap();
    create(&store, "pods/x/cc", "1").await.unwrap();
    delete(&store, "pods/x/a").await.unwrap();
    create(&store, "pods/x/c", "again").await.unwrap();

    let after = Some(&first.records[1].key);
    let second = store.page(&range, after, 2, Some(first.revision)).unwrap();
    assert_eq!(told_all(&second.records), ["x/c=1", "x/d=1"]);
    assert_eq!((second.more, second.remaining), (true, 1));
    let after = Some(&second.records[1].key);
    let last = store.page(&range, after, 2, Some(first.revision)).unwrap();
    assert_eq!(told_all(&last.records), ["x/e=1"]);
    assert_eq!((last.more, last.remaining), (false, 0));

    let now = store.page(&range, None, 10, None).unwrap();
    assert_eq!(
        told_all(&now.records),
        ["x/b=1", "x/c=again", "x/cc=1", "x/d=3", "x/e=1"]
    );
}

#[tokio::test]
async fn every_past_state_within_history_can_be_read() {
    let store = in_memory();
    let mut states = vec![Vec::new()];
    for step in 0..60_u32 {
        let path = ["pods/x/a", "pods/x/b", "pods/y/a", "pods/y/b"][(step * 7 % 4) as usize];
        match store.get(&key(path)) {
            None => create(&store, path, "new").await,
            Some(_) if step % 3 == 0 => delete(&store, path).await,
            Some(_) => update(&store, path, "changed").await,
        }
        .unwrap();
        states.push(told_all(&store.list(&Range::all("pods")).records));
    }
    for (revision, state) in states.iter().enumerate() {
        let page = store
            .page(&Range::all("pods"), None, 100, Some(revision as u64))
            .unwrap();
        assert_eq!(&told_all(&page.records), state, "at {revision}");
    }
}

#[tokio::test]
async fn what_history_has_forgotten_is_expired_and_what_has_not_happened_is_future() {
    let config = Config {
        history_revisions: 2,
        history_age: std::time::Duration::ZERO,
        ..Config::in_memory()
    };
    let store = Store::open(config).unwrap();
    for path in ["pods/x/a", "pods/x/b", "pods/x/c", "pods/x/d"] {
        create(&store, path, "").await.unwrap();
    }
    let range = Range::all("pods");
    let page = |at| {
        store
            .page(&range, None, 10, Some(at))
            .map(|page| page.records.len())
    };
    assert_eq!(
        page(1),
        Err(RevisionError::Expired {
            asked: 1,
            horizon: 2
        })
    );
    assert_eq!((page(2), page(4)), (Ok(2), Ok(4)));
    assert_eq!(
        page(5),
        Err(RevisionError::Future {
            asked: 5,
            newest: 4
        })
    );
}

#[tokio::test]
async fn a_page_may_begin_at_any_key_and_have_no_room() {
    let store = in_memory();
    create(&store, "pods/x/a", "").await.unwrap();
    create(&store, "pods/x/c", "").await.unwrap();
    let range = Range::within("pods", "x");
    let page = |after| {
        told_all(
            &store
                .page(&range, Some(&key(after)), 9, None)
                .unwrap()
                .records,
        )
    };
    assert_eq!(page("pods/x/b"), ["x/c="]);
    assert_eq!(page("pods/w/z"), ["x/a=", "x/c="]);
    assert!(page("pods/y/a").is_empty());
    assert!(page("zebras/x/a").is_empty());
    assert_eq!(page("ants/x/z"), ["x/a=", "x/c="]);
    assert_eq!(store.page(&range, None, 0, None).unwrap().remaining, 2);
}
