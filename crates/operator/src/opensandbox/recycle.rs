//! How pods come back: deleted, restarted, or as they are.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use sandlot_api::{
    GoDuration,
    opensandbox::{Pool, RecycleType, names},
};
use sandlot_decide::expiry::later;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    index::{Executor, PodEntry, PoolEntry},
    world::{Restart, Wake, World},
    writes::Write,
};
use crate::{index::Key, world::reference};

/// How a pool's pods are restarted, as its annotation says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RestartConfig {
    /// Containers that are left alone.
    blacklist: Vec<String>,
    retry_interval: GoDuration,
    max_retries: u32,
    restart_command: Vec<String>,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            blacklist: Vec::new(),
            retry_interval: GoDuration(std::time::Duration::from_secs(30)),
            max_retries: 3,
            restart_command: vec!["kill".to_owned(), "1".to_owned()],
        }
    }
}

impl RestartConfig {
    /// How a pool wants it. What cannot be read may spare a container that a guess would not.
    fn of(pool: &PoolEntry) -> Result<Self, String> {
        let Some(text) = &pool.restart_config else {
            return Ok(Self::default());
        };
        serde_json::from_str(text).map_err(|error| {
            format!(
                "annotation {} cannot be read: {error}",
                names::RESTART_CONFIG
            )
        })
    }
}

/// Says with a pod's pool that the pod is deleted because nobody knows how to restart it.
fn warn(world: &World, pod: &Key, why: String) {
    let Some(pool) = world.index.pods.get(pod).and_then(PodEntry::pool) else {
        return;
    };
    if let Some(found) = world.index.pools.get(pool) {
        let about = reference::<Pool>(pool, &found.uid);
        let note = format!("{why}; pod {} is deleted instead", pod.name);
        world
            .events
            .warn(about, "IllegibleAnnotation", "RestartPod", note);
    }
}

/// How far a pod's restart is, as its annotation says.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct RestartRecord {
    /// The batch that gave it back.
    id: String,
    start_time: Option<Timestamp>,
    /// The ids of the containers before the restart.
    containers: BTreeMap<String, String>,
    last_retry_time: Option<Timestamp>,
    retry_count: u32,
}

/// Takes back what a batch gives back. A pod is free only once it is as its pool wants it.
pub(crate) fn take_back(world: &mut World, batch: &Key) {
    let Some(entry) = world.index.batches.get(batch) else {
        return;
    };
    let uid = entry.uid.to_string();
    let returning: Vec<Arc<str>> = entry.slots.returning().cloned().collect();
    for name in returning {
        let pod = batch.beside(&name);
        if is_back(world, &pod, Some(&uid)) {
            if let Some(entry) = world.index.batches.get_mut(batch) {
                entry.slots.taken_back(&name);
            }
            if world.index.holder(&pod) == Some(batch) {
                world.index.free_pod(&pod);
            }
        }
    }
}

/// Whether a pod that is given back, by the batch of this uid where one is left, has arrived;
/// otherwise it is brought further on its way.
fn is_back(world: &mut World, pod: &Key, batch: Option<&str>) -> bool {
    let Some(entry) = world.index.pods.get(pod) else {
        return true;
    };
    // A pod being deleted is nobody's to use.
    if entry.facts.leaving {
        return true;
    }
    if entry.busy {
        return false;
    }
    let kind = world
        .index
        .home(entry)
        .filter(|pool| !pool.leaving && (entry.is_ready() || record_of(entry, batch).is_some()))
        .and_then(|pool| pool.spec.recycle_strategy)
        .map_or(RecycleType::Delete, |strategy| strategy.kind);
    match kind {
        RecycleType::Noop => true,
        RecycleType::Delete => {
            delete(world, pod);
            false
        }
        RecycleType::Restart => match batch {
            Some(batch) => restart(world, pod, batch, Timestamp::now()),
            // Whose restart it is could not be told from the next one's.
            None => {
                delete(world, pod);
                false
            }
        },
    }
}

/// Deletes a pod that nobody is to have any more.
pub(crate) fn delete(world: &mut World, pod: &Key) {
    let Some(entry) = world.index.pods.get_mut(pod) else {
        return;
    };
    if entry.busy || entry.facts.leaving {
        return;
    }
    entry.busy = true;
    let uid = entry.uid.clone();
    world.tray.writes.push(Write::DeletePod {
        pod: pod.clone(),
        uid,
        version: None,
    });
}

/// A pod that nobody has: one whose pool is gone, or that a batch had which is gone.
pub(crate) fn stray(world: &mut World, pod: &Key) {
    let holder = world.index.holder(pod).cloned();
    if let Some(batch) = holder {
        if world.index.batches.contains_key(&batch) {
            return;
        }
        // Its batch went without giving it back, by force.
        if is_back(world, pod, None) {
            world.index.free_pod(pod);
        }
        return;
    }
    let Some(entry) = world.index.pods.get(pod) else {
        return;
    };
    // What nobody of ours owns is somebody else's, whatever its labels say.
    if entry.owner.is_some() && entry.pool().is_some() && world.index.home(entry).is_none() {
        delete(world, pod);
    }
}

/// Restarts a pod's containers; whether all are up again. A pod that does not come up in time is
/// deleted.
fn restart(world: &mut World, pod: &Key, batch: &str, now: Timestamp) -> bool {
    let Some(entry) = world.index.pods.get(pod) else {
        return true;
    };
    let config = match world.index.home(entry).map(RestartConfig::of) {
        Some(Ok(config)) => config,
        Some(Err(why)) => {
            warn(world, pod, why);
            delete(world, pod);
            return false;
        }
        None => RestartConfig::default(),
    };
    match record_of(entry, Some(batch)) {
        None => {
            let mut containers = entry.containers.clone();
            // Our executor has nothing of the last tenant's, and no shell to end it with.
            let ours = entry.executor == Executor::Ours;
            containers.retain(|name, _| {
                !config.blacklist.contains(name) && (!ours || name != names::EXECUTOR_CONTAINER)
            });
            let record = RestartRecord {
                id: batch.to_owned(),
                start_time: Some(now),
                containers,
                ..RestartRecord::default()
            };
            note(world, pod, &record);
            false
        }
        // The record stays: it is of this batch, and the next one begins its own.
        Some(record) if is_restarted(entry, &record) => true,
        Some(record) => {
            push(world, pod, &config, record, now);
            false
        }
    }
}

/// Asks the containers to restart, again and again, up to a point.
fn push(
    world: &mut World,
    pod: &Key,
    config: &RestartConfig,
    mut record: RestartRecord,
    now: Timestamp,
) {
    let due = record
        .last_retry_time
        .map(|last| later(last, config.retry_interval.0));
    if let Some(due) = due.filter(|due| *due > now) {
        return world.wakes.at(due, Wake::Stray(pod.clone()));
    }
    if record.retry_count > config.max_retries {
        return delete(world, pod);
    }
    let Some(entry) = world.index.pods.get(pod) else {
        return;
    };
    let old = record.containers.iter();
    let containers = old
        .filter(|(name, id)| entry.containers.get(*name) == Some(id))
        .map(|(name, _)| name.clone())
        .collect();
    record.retry_count += 1;
    record.last_retry_time = Some(now);
    world.tray.restarts.push(Restart {
        pod: pod.clone(),
        containers,
        command: config.restart_command.clone(),
    });
    note(world, pod, &record);
}

/// How far the restart is that a batch's return of the pod began.
fn record_of(pod: &PodEntry, batch: Option<&str>) -> Option<RestartRecord> {
    let record: RestartRecord = serde_json::from_str(pod.restart.as_deref()?).ok()?;
    (Some(record.id.as_str()) == batch).then_some(record)
}

fn is_restarted(pod: &PodEntry, record: &RestartRecord) -> bool {
    let fresh =
        |(name, old): (&String, &String)| pod.containers.get(name).is_some_and(|id| id != old);
    pod.is_ready() && record.containers.iter().all(fresh)
}

fn note(world: &mut World, pod: &Key, record: &RestartRecord) {
    let Some(entry) = world.index.pods.get_mut(pod) else {
        return;
    };
    // A record of words and times can always be written.
    let text = serde_json::to_string(record).unwrap_or_default();
    entry.busy = true;
    let patch = json!({ "metadata": {
        "resourceVersion": entry.resource_version,
        "annotations": { names::RESTART_RECORD: text },
    } });
    world.tray.writes.push(Write::ChangePod {
        pod: pod.clone(),
        patch,
    });
}
