//! What came of the operator's own writes goes into the index, before the watch tells of it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Error;
use sandlot_api::opensandbox::{BatchSandbox, Pool};
use sandlot_decide::{backoff::Backoff, expiry::later};

use super::{
    index::{BatchEntry, Refused},
    world::{Wake, World},
    writes::{Maker, Written},
};
use crate::{
    index::{Key, Uid},
    rounds::writes::{refusal, say},
    world::reference,
};

/// Waits between attempts at pods that the API refuses.
const REFUSED: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
};

/// Takes in what came of a write.
pub(super) fn take(world: &mut World, written: Written, now: Timestamp) {
    match written {
        Written::PodCreated {
            maker,
            name,
            result: Ok(()),
        } => pod_created(world, maker, name),
        Written::PodCreated {
            maker,
            name,
            result: Err(error),
        } => match maker {
            Maker::Pool(pool) => pool_refused(world, &pool, &name, &error, now),
            Maker::Batch(batch, index) => batch_refused(world, &batch, index, &error, now),
        },
        Written::PodDeleted { pod, uid, result } => pod_deleted(world, &pod, &uid, result, now),
        Written::PodChanged { pod, result } => {
            let Some(entry) = world.index.pods.get_mut(&pod) else {
                return;
            };
            entry.busy = false;
            match result {
                Ok(changed) => {
                    if is_the(&entry.uid, &changed.metadata) {
                        world.index.see_pod(&changed, now);
                    }
                    world.index.shelve(&pod);
                }
                Err(error) => {
                    say(&pod, &error, "a pod");
                    world.failed(Wake::Stray(pod.clone()), now);
                }
            }
            mark_around(world, &pod);
        }
        Written::Pool { key, result } => {
            let Some(entry) = world.index.pools.get_mut(&key) else {
                return;
            };
            entry.writing = false;
            match result {
                Ok(pool) => {
                    world.wakes.succeeded(&Wake::Pool(key));
                    if is_the(&entry.uid, &pool.metadata) {
                        world.index.see_pool(&pool);
                    }
                }
                Err(error) => {
                    say(&key, &error, "a pool");
                    world.failed(Wake::Pool(key), now);
                }
            }
        }
        Written::Batch { key, seen, failed } => batch_written(world, &key, seen, failed, now),
        Written::Snapshot { key, seen, failed } => {
            if let Some(entry) = world.index.snapshots.get_mut(&key) {
                entry.writing = false;
                let seen = seen.filter(|seen| is_the(&entry.uid, &seen.metadata));
                if let Some(snapshot) = seen {
                    world.index.see_snapshot(&snapshot);
                }
            }
            match failed {
                None => world.wakes.succeeded(&Wake::Snapshot(key.clone())),
                Some(error) => {
                    say(&key, &error, "a snapshot");
                    world.failed(Wake::Snapshot(key.clone()), now);
                }
            }
        }
        Written::SnapshotMade {
            batch,
            snapshot,
            result,
        } => {
            let overtaken = world.making.take(&snapshot);
            let failed = match result {
                Ok(made) if !overtaken => {
                    world.index.see_snapshot(&made);
                    None
                }
                // If it is there all the same, the watch says so.
                Ok(_) => None,
                Err(error) => Some(error),
            };
            batch_written(world, &batch, None, failed, now);
        }
        Written::Saved { key, uid, result } => {
            super::snapshot::saved(world, &key, &uid, result, now);
        }
    }
}

/// Whether an answer is about the object that is known by its name. The watch may have told meanwhile
/// that the one it is about is gone, and even of another that has its name now.
fn is_the(known: &Uid, answered: &ObjectMeta) -> bool {
    answered.uid.as_deref() == Some(&**known)
}

fn batch_written(
    world: &mut World,
    key: &Key,
    seen: Option<Box<BatchSandbox>>,
    failed: Option<Error>,
    now: Timestamp,
) {
    if let Some(entry) = world.index.batches.get_mut(key) {
        entry.writing = false;
        let seen = seen.filter(|seen| is_the(&entry.uid, &seen.metadata));
        if let Some(batch) = seen {
            world.index.see_batch(&batch);
        }
    }
    match failed {
        None => {
            world.wakes.succeeded(&Wake::Batch(key.clone()));
            world.index.marks.batches.insert(key.clone());
        }
        // It is looked at again when the watch tells of it, or a little later.
        Some(error) => {
            say(key, &error, "a batch");
            world.failed(Wake::Batch(key.clone()), now);
        }
    }
}

fn pod_deleted(world: &mut World, pod: &Key, uid: &str, result: Result<(), Error>, now: Timestamp) {
    let Some(entry) = world
        .index
        .pods
        .get_mut(pod)
        .filter(|entry| *entry.uid == *uid)
    else {
        return;
    };
    match result {
        // The watch takes the pod away; from now on it is nobody's to use.
        Ok(()) => entry.facts.leaving = true,
        Err(error) => {
            say(pod, &error, "the deletion of a pod");
            entry.busy = false;
            world.failed(Wake::Stray(pod.clone()), now);
        }
    }
    world.index.shelve(pod);
    mark_around(world, pod);
}

/// Marks whoever has to do with a pod.
pub(super) fn mark_around(world: &mut World, pod: &Key) {
    let index = &mut world.index;
    if let Some(batch) = index.holder(pod).cloned() {
        match index.batches.contains_key(&batch) {
            true => index.marks.batches.insert(batch),
            false => index.marks.strays.insert(pod.clone()),
        };
    }
    let Some(entry) = index.pods.get(pod) else {
        return;
    };
    match &entry.origin {
        super::index::Origin::Pool { pool, .. } => index.marks.pools.insert(pool.clone()),
        super::index::Origin::Batch { batch, .. } => index.marks.batches.insert(batch.clone()),
    };
}

/// A pod was made. It stays on the list of those being made until the watch tells of it.
fn pod_created(world: &mut World, maker: Maker, name: Arc<str>) {
    let index = &mut world.index;
    let made = match maker {
        Maker::Pool(pool) => index.pools.get_mut(&pool).map(|pool| &mut pool.made),
        Maker::Batch(batch, _) => index.batches.get_mut(&batch).map(|batch| &mut batch.made),
    };
    if let Some(made) = made {
        made.note(name);
    }
}

fn pool_refused(world: &mut World, key: &Key, name: &str, error: &Error, now: Timestamp) {
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    entry.stock.answered(name);
    world.index.marks.pools.insert(key.clone());
    let Some(message) = refusal(error) else {
        return;
    };
    tracing::warn!(pool = %key, %error, "a pod could not be made");
    if entry.stock.refused(&message, now) {
        let about = reference::<Pool>(key, &entry.uid);
        world
            .events
            .warn(about, "FailedCreate", "CreatePod", message);
    }
}

fn batch_refused(world: &mut World, key: &Key, index: usize, error: &Error, now: Timestamp) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    entry.making.remove(&index);
    world.index.marks.batches.insert(key.clone());
    let Some(message) = refusal(error) else {
        // The name is taken: by a pod that is on its way out, or by somebody else's.
        world
            .wakes
            .at(later(now, Duration::from_secs(1)), Wake::Batch(key.clone()));
        return;
    };
    tracing::warn!(batch = %key, %error, "a pod could not be made");
    let message = format!("{}: {message}", pod_in_words(key, entry, index));
    let before = entry.refused.as_ref();
    let fresh = before.is_none_or(|refused| refused.message != message);
    if refuse(entry, message.clone(), now) && fresh {
        let about = reference::<BatchSandbox>(key, &entry.uid);
        world
            .events
            .warn(about, "FailedCreate", "CreatePod", message);
    }
}

/// Which pod of a batch is meant, and whether a patch of its own is part of it.
fn pod_in_words(key: &Key, entry: &BatchEntry, index: usize) -> String {
    let name = BatchEntry::own_pod(key, index);
    let patches = entry.spec.shard_patches.as_ref();
    match patches.and_then(|patches| patches.get(index)) {
        Some(patch) if !patch.is_empty() => format!("{name}, with shardPatches[{index}]"),
        _ => name.to_string(),
    }
}

/// A batch's pods cannot be made for now. Those asked for together are refused together, and the
/// first speaks for all of them: whether this is the one.
pub(super) fn refuse(entry: &mut BatchEntry, message: String, now: Timestamp) -> bool {
    let before = entry.refused.as_ref();
    if before.is_some_and(|refused| refused.until > now) {
        return false;
    }
    let times = before.map_or(0, |refused| refused.times).saturating_add(1);
    entry.refused = Some(Refused {
        message,
        times,
        until: later(now, REFUSED.after(times)),
    });
    true
}

#[cfg(test)]
mod tests;
