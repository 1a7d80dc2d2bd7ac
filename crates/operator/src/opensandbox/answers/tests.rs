//! Answers that come after the word that their object is gone.

use std::sync::Arc;

use kube::{Client, core::ObjectMeta};
use sandlot_api::opensandbox::{BatchSandboxSpec, SandboxSnapshot, SandboxSnapshotSpec};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    events::Events,
    metrics::Metrics,
    opensandbox::sights::{Kind, Object},
    rounds::Family,
    settings::Settings,
};

/// A world that nobody watches, with a client that reaches nobody.
fn world() -> World {
    let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = Client::try_from(nowhere).unwrap();
    let (events, _) = Events::start(client, "test", "test".to_owned(), CancellationToken::new());
    let settings = Arc::new(Settings::default());
    World::new(settings, None, None, events, Arc::new(Metrics::default()))
}

fn meta(name: &str, uid: &str, version: u64) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some(uid.to_owned()),
        resource_version: Some(version.to_string()),
        ..ObjectMeta::default()
    }
}

fn snapshot(uid: &str, version: u64) -> Box<SandboxSnapshot> {
    let spec = SandboxSnapshotSpec {
        sandbox_name: "b".to_owned(),
    };
    let mut snapshot = SandboxSnapshot::new("b-pause", spec);
    snapshot.metadata = meta("b-pause", uid, version);
    Box::new(snapshot)
}

fn batch(uid: &str, version: u64) -> Box<BatchSandbox> {
    let spec: BatchSandboxSpec = serde_json::from_value(json!({ "replicas": 1 })).unwrap();
    let mut batch = BatchSandbox::new("b", spec);
    batch.metadata = meta("b", uid, version);
    Box::new(batch)
}

fn key(name: &str) -> Key {
    Key::of(&meta(name, "", 0)).unwrap()
}

fn made(uid: &str, version: u64) -> Written {
    Written::SnapshotMade {
        batch: key("b"),
        snapshot: key("b-pause"),
        result: Ok(snapshot(uid, version)),
    }
}

#[tokio::test]
async fn a_snapshot_that_has_come_and_gone_is_not_brought_back_by_the_answer_that_it_was_made() {
    let (mut world, now) = (world(), Timestamp::now());
    world.making.begin(key("b-pause"));
    world.see(Object::Snapshot(snapshot("one", 5)), now);
    world.lose(Kind::Snapshot, &key("b-pause"), now);
    take(&mut world, made("one", 5), now);
    assert!(!world.index.snapshots.contains_key(&key("b-pause")));
    // The next one is taken in at once.
    world.making.begin(key("b-pause"));
    take(&mut world, made("two", 9), now);
    let known = &world.index.snapshots[&key("b-pause")];
    assert_eq!((&*known.uid, known.revision), ("two", 9));
}

#[tokio::test]
async fn a_snapshot_that_went_while_nobody_watched_is_not_brought_back_either() {
    let (mut world, now) = (world(), Timestamp::now());
    world.making.begin(key("b-pause"));
    // Made and deleted before the list: the watch never told of it.
    world.complete(Kind::Snapshot, &std::collections::HashSet::new(), now);
    take(&mut world, made("one", 5), now);
    assert!(!world.index.snapshots.contains_key(&key("b-pause")));
}

#[tokio::test]
async fn a_late_answer_about_an_object_does_not_replace_the_one_that_has_its_name_now() {
    let (mut world, now) = (world(), Timestamp::now());
    world.see(Object::Batch(batch("new", 20)), now);
    world.see(Object::Snapshot(snapshot("new", 21)), now);
    let late = Written::Batch {
        key: key("b"),
        seen: Some(batch("old", 10)),
        failed: None,
    };
    take(&mut world, late, now);
    let late = Written::Snapshot {
        key: key("b-pause"),
        seen: Some(snapshot("old", 11)),
        failed: None,
    };
    take(&mut world, late, now);
    assert_eq!(&*world.index.batches[&key("b")].uid, "new");
    assert_eq!(&*world.index.snapshots[&key("b-pause")].uid, "new");
}
