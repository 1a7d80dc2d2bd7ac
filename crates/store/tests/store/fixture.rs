//! Short words for what every test does.

use std::sync::Arc;

use bytes::Bytes;
use sandlot_store::{Change, Config, Event, Expect, Key, Record, Store, WriteError};

pub(crate) type Written = Result<Arc<Record<()>>, WriteError<()>>;

pub(crate) fn in_memory() -> Store<()> {
    Store::open(Config::in_memory()).unwrap()
}

pub(crate) fn key(path: &str) -> Key {
    let mut parts = path.splitn(3, '/');
    let mut part = || parts.next().unwrap();
    Key::new(part(), part(), part())
}

pub(crate) async fn create(store: &Store<()>, path: &str, value: &'static str) -> Written {
    let put = Change::put((), move |_| Bytes::from_static(value.as_bytes()));
    store.write(key(path), Expect::Absent, put).await
}

pub(crate) async fn update(store: &Store<()>, path: &str, value: &'static str) -> Written {
    let current = store.get(&key(path)).unwrap();
    let put = Change::put((), move |_| Bytes::from_static(value.as_bytes()));
    store
        .write(key(path), Expect::Revision(current.revision), put)
        .await
}

pub(crate) async fn delete(store: &Store<()>, path: &str) -> Written {
    let current = store.get(&key(path)).unwrap();
    let gone = Change::delete((), |_| Bytes::from_static(b"gone"));
    store
        .write(key(path), Expect::Revision(current.revision), gone)
        .await
}

/// A record in few words: `namespace/name=value`.
pub(crate) fn told(record: &Record<()>) -> String {
    let value = String::from_utf8_lossy(&record.value);
    format!("{}/{}={value}", record.key.namespace, record.key.name)
}

/// A list in few words.
pub(crate) fn told_all(records: &[Arc<Record<()>>]) -> Vec<String> {
    records.iter().map(|record| told(record)).collect()
}

/// An event in few words, with what was before in brackets.
pub(crate) fn told_event(event: &Event<()>) -> String {
    let sign = if event.deleted { '-' } else { '+' };
    let before = event
        .previous
        .as_ref()
        .map(|previous| previous.value.clone());
    let before = before.map_or(String::new(), |value| {
        String::from_utf8_lossy(&value).into()
    });
    format!("{}{sign}{}[{before}]", event.revision, told(&event.record))
}
