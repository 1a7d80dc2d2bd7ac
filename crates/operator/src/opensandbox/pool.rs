//! Pool: idle pods between two bounds, within two bounds for all.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sandlot_api::opensandbox::{Pool, PoolSpec, PoolStatus, names};
use sandlot_decide::pool::{self, Plan, Share, Sizing, Use, Why};
use serde_json::json;

use super::{
    build,
    index::{Executor, Origin, PoolEntry},
    world::{Wake, World},
    writes::{Maker, Write},
};
use crate::{
    index::Key,
    pods::{
        self,
        stock::{COUNTS_APART, Order, care},
    },
    rounds::{LastTold, writes::status_patch},
    world::reference,
};

/// How many pods of a pool may be asked for and not seen: it may want millions.
const AT_ONCE: u32 = 256;

/// Looks at a pool and puts on the tray what is to be done.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    if entry.leaving {
        return part(world, key);
    }
    if !entry
        .finalizers
        .iter()
        .any(|name| name == names::POOL_IN_USE)
    {
        return bind(world, key);
    }
    if let Err(next) = entry.stock.breathe(now) {
        world.wakes.at(next, Wake::Pool(key.clone()));
        return;
    }
    let Some(entry) = world.index.pools.get(key) else {
        return;
    };
    let facts = facts(world, key, entry);
    let shelf = world.index.shelves.get(key);
    let order = Order {
        sizing: sizing(&entry.spec),
        care: care(
            share(
                entry
                    .spec
                    .scale_strategy
                    .as_ref()
                    .and_then(|scale| scale.max_unavailable.as_ref()),
            ),
            share(
                entry
                    .spec
                    .update_strategy
                    .as_ref()
                    .and_then(|update| update.max_unavailable.as_ref()),
            ),
        ),
        pods: &facts,
        wanted: shelf.map_or(0, |shelf| shelf.wanted()),
    };
    let plan = entry.stock.plan(&order, now);
    if let Some(again) = plan.again {
        world.wakes.at(again, Wake::Pool(key.clone()));
    }
    world.metrics.pool(key, &plan.counts);
    carry_out(world, key, &plan, now);
    tell(world, key, &plan, now);
}

/// The pool's pods as the engine wants them.
fn facts(world: &World, key: &Key, entry: &PoolEntry) -> Vec<pool::Pod> {
    let own = world.key.as_ref().and_then(|key| key.public().ok());
    let pods = world.index.pods_of(key, &entry.uid);
    pods.map(|pod| {
        let mut facts = pod.facts.clone();
        facts.used = world.index.use_of(&pod.key);
        // A pod whose executor does not know this operator is of as little use as an outdated one.
        let known = pod.executor != Executor::Ours || pod.operator_key == own;
        facts.current = match &pod.origin {
            Origin::Pool { revision, .. } => known && *revision == entry.template_revision,
            Origin::Batch { .. } => true,
        };
        if pod.busy {
            facts.leaving = facts.used == Use::Idle;
        }
        facts
    })
    .collect()
}

fn sizing(spec: &PoolSpec) -> Sizing {
    let number = |value: i32| u32::try_from(value).unwrap_or(0);
    let capacity = &spec.capacity_spec;
    Sizing::Buffer {
        buffer_min: number(capacity.buffer_min),
        buffer_max: number(capacity.buffer_max),
        pool_min: number(capacity.pool_min),
        pool_max: number(capacity.pool_max),
    }
}

/// A number or a share as written; a quarter where nothing sensible is.
fn share(written: Option<&IntOrString>) -> Share {
    const QUARTER: Share = Share::Percent(25);
    match written {
        None => QUARTER,
        Some(IntOrString::Int(count)) => u32::try_from(*count).map_or(QUARTER, Share::Count),
        Some(IntOrString::String(text)) => match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().map_or(QUARTER, Share::Percent),
            None => text.trim().parse().map_or(QUARTER, Share::Count),
        },
    }
}

fn carry_out(world: &mut World, key: &Key, plan: &Plan, now: Timestamp) {
    for removal in &plan.remove {
        let pod = key.beside(&removal.pod);
        let Some(found) = world.index.pods.get_mut(&pod) else {
            continue;
        };
        found.busy = true;
        let (uid, version) = (found.uid.clone(), found.resource_version.clone());
        world.index.shelve(&pod);
        world.tray.writes.push(Write::DeletePod {
            pod: pod.clone(),
            uid,
            version: Some(version),
        });
        let Some(entry) = world.index.pools.get(key) else {
            continue;
        };
        let about = reference::<Pool>(key, &entry.uid);
        match &removal.why {
            Why::Failing(trouble) => {
                let note = format!("replacing pod {}: {}", pod.name, trouble.message);
                world
                    .events
                    .warn(about, trouble.kind.reason(), "ReplacePod", note);
            }
            Why::Evicted => {
                let note = format!("evicted pod {}", pod.name);
                world.events.tell(about, "PodEvicted", "EvictPod", note);
            }
            Why::Surplus | Why::OldTemplate => {}
        }
    }
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    entry.stock.settle(plan);
    let room = AT_ONCE.saturating_sub(entry.stock.making());
    for _ in 0..plan.create.min(room) {
        let name: Arc<str> = pods::fresh_name(&key.name).into();
        let keys = match world.key.as_ref().map(pods::Keys::new).transpose() {
            Ok(keys) => keys,
            Err(error) => {
                // Never an executor that anybody may call; the next look at the pool tries again.
                tracing::error!(pool = %key.name, %error, "no key for a pod");
                continue;
            }
        };
        let pod = Box::new(build::for_pool(
            key,
            entry,
            &name,
            keys,
            &world.settings.agent,
        ));
        entry.stock.ask(name.clone(), now);
        world.tray.writes.push(Write::CreatePod {
            maker: Maker::Pool(key.clone()),
            name,
            pod,
        });
    }
}

/// Writes what has changed in the pool's status, a few times a second at most.
fn tell(world: &mut World, key: &Key, plan: &Plan, now: Timestamp) {
    let available = world
        .index
        .shelves
        .get(key)
        .map_or(0, |shelf| shelf.ready());
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let status = PoolStatus {
        observed_generation: entry.generation,
        revision: entry.template_revision.to_string(),
        total: number(plan.counts.total),
        allocated: number(plan.counts.taken),
        available: i32::try_from(available).unwrap_or(i32::MAX),
        updated: number(plan.counts.updated),
    };
    if entry.status.as_ref() == Some(&status) || entry.writing {
        return;
    }
    if let Some(when) = entry.told.waits(COUNTS_APART, now) {
        return world.wakes.at(when, Wake::Pool(key.clone()));
    }
    entry.told = LastTold::at(now);
    entry.writing = true;
    if let Some(note) = entry.made.tell() {
        let about = reference::<Pool>(key, &entry.uid);
        world
            .events
            .tell(about, "SuccessfulCreate", "CreatePod", note);
    }
    let patch = status_patch(&entry.resource_version, &status);
    world.tray.writes.push(Write::PoolStatus {
        key: key.clone(),
        patch,
    });
}

/// Puts the finalizer on a pool under which nobody loses a pod when the pool is deleted.
fn bind(world: &mut World, key: &Key) {
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    if entry.writing {
        return;
    }
    entry.writing = true;
    let mut finalizers = entry.finalizers.clone();
    finalizers.push(names::POOL_IN_USE.to_owned());
    let patch = json!({ "metadata": { "resourceVersion": entry.resource_version, "finalizers": finalizers } });
    world.tray.writes.push(Write::PoolMeta {
        key: key.clone(),
        patch,
    });
}

/// A pool is being deleted: pods in use become their batches' own, then the pool may go, and the
/// idle ones with it.
fn part(world: &mut World, key: &Key) {
    let Some(entry) = world.index.pools.get(key) else {
        return;
    };
    if entry.writing
        || !entry
            .finalizers
            .iter()
            .any(|name| name == names::POOL_IN_USE)
    {
        return;
    }
    let mut waiting = false;
    let mut hand_over = Vec::new();
    for pod in world.index.pods_of(key, &entry.uid) {
        let holder = world.index.holder(&pod.key).filter(|_| !pod.facts.leaving);
        let batch = holder.and_then(|batch| Some((batch, world.index.batches.get(batch)?)));
        let Some((batch, found)) = batch else {
            continue;
        };
        waiting = true;
        if !pod.busy {
            let patch = json!({ "metadata": {
                "resourceVersion": pod.resource_version,
                "ownerReferences": [build::batch_reference(batch, &found.uid)],
            } });
            hand_over.push((pod.key.clone(), patch));
        }
    }
    for (pod, patch) in hand_over {
        if let Some(found) = world.index.pods.get_mut(&pod) {
            found.busy = true;
        }
        world.tray.writes.push(Write::ChangePod { pod, patch });
    }
    if waiting {
        return;
    }
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    entry.writing = true;
    let finalizers: Vec<_> = entry
        .finalizers
        .iter()
        .filter(|name| *name != names::POOL_IN_USE)
        .collect();
    let patch = json!({ "metadata": { "resourceVersion": entry.resource_version, "finalizers": finalizers } });
    world.tray.writes.push(Write::PoolMeta {
        key: key.clone(),
        patch,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_kubernetes_writes_them() {
        let text = |text: &str| share(Some(&IntOrString::String(text.to_owned())));
        assert_eq!(share(None), Share::Percent(25));
        assert_eq!(share(Some(&IntOrString::Int(3))), Share::Count(3));
        assert_eq!(text("40%"), Share::Percent(40));
        assert_eq!(text("7"), Share::Count(7));
        assert_eq!(text("many"), Share::Percent(25));
    }
}
