//! The end of a batch: its tasks are stopped, then its pods are given back, then it may go.

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_api::opensandbox::names;
use serde_json::json;

use super::{
    super::{index::write_list, recycle, tasks::Purpose, world::World, writes::Write},
    shards::{self, Place},
    supply,
    word::Word,
};
use crate::index::Key;

/// Brings a batch that is being deleted further to its end.
pub(super) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    if entry.writing {
        return;
    }
    let word = Word::as_written(entry);
    let held = |finalizer| entry.is_held_by(finalizer);
    if held(names::TASK_CLEANUP) {
        if stop_tasks(world, key) {
            return let_go(world, key, names::TASK_CLEANUP);
        }
        return super::tell::look(world, key, &word, now);
    }
    let pods: Vec<Arc<str>> = entry.slots.held().cloned().collect();
    if let Some(entry) = world.index.batches.get_mut(key) {
        for pod in pods {
            entry.slots.give_back(pod);
        }
    }
    recycle::take_back(world, key);
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    if !entry.is_held_by(names::POOL_ALLOCATION) {
        return;
    }
    let waits = entry.slots.returning().next().is_some();
    if waits {
        super::tell::look(world, key, &word, now);
    } else {
        let_go(world, key, names::POOL_ALLOCATION);
    }
}

/// Sees that nothing of any task is left; whether that is so.
fn stop_tasks(world: &mut World, key: &Key) -> bool {
    let Some(entry) = world.index.batches.get(key) else {
        return true;
    };
    let mut last = entry.replicas().max(entry.slots.given().len());
    if let Some((index, _)) = entry.shards.last_key_value() {
        last = last.max(index + 1);
    }
    let mut left = false;
    for index in 0..last {
        let Some(entry) = world.index.batches.get_mut(key) else {
            return true;
        };
        entry.shards.entry(index).or_default();
        let Some(entry) = world.index.batches.get(key) else {
            return true;
        };
        // A pod that is on its way out takes its processes with it, but only when it is gone.
        let Some(pod) = world
            .index
            .pod_at(key, entry, index)
            .filter(|pod| pod.ended.is_none())
        else {
            continue;
        };
        if supply::is_stopped(&pod.uid, entry.shards.get(&index)) {
            continue;
        }
        left = true;
        let gone = pod.key.clone();
        match shards::place_of(world, entry, pod) {
            _ if pod.facts.leaving => {}
            Place::At(uid, door) => shards::send(world, key, index, uid, door, Purpose::Stop),
            // Whom nobody can ask whether anything is left of a task is not given to the next.
            Place::Nowhere | Place::Closed => recycle::delete(world, &gone),
        }
    }
    !left
}

/// Takes a finalizer away, and writes down what is given back.
fn let_go(world: &mut World, key: &Key, finalizer: &str) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    entry.writing = true;
    let finalizers: Vec<_> = entry
        .finalizers
        .iter()
        .filter(|name| *name != finalizer)
        .collect();
    let pods = entry.slots.given().iter().filter(|name| !name.is_empty());
    let mut release: Vec<Arc<str>> = pods.cloned().collect();
    release.sort();
    let mut notes = serde_json::Map::new();
    if !release.is_empty() {
        notes.insert(names::RELEASE.to_owned(), json!(write_list(release.iter())));
        if finalizer == names::POOL_ALLOCATION {
            notes.insert(
                names::RELEASED.to_owned(),
                json!(write_list(release.iter())),
            );
        }
    }
    let meta = json!({ "finalizers": finalizers, "annotations": notes });
    world.tray.writes.push(Write::Batch {
        key: key.clone(),
        version: entry.resource_version.clone(),
        meta: Some(meta),
        status: None,
    });
}
