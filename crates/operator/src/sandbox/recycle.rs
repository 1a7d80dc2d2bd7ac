//! Pods that sandboxes give back: deleted, or wiped and returned to their pool.

use jiff::Timestamp;
use sandlot_api::arl::{Recycle, names};
use serde_json::{Value, json};

use crate::{
    agents::Door,
    dispatch::Write,
    index::{Key, PodEntry, Uid},
    pods,
    world::World,
};

/// Gives back a pod that names a sandbox which is gone or has another: it is deleted, or wiped and
/// returned.
pub(crate) fn give_back(world: &mut World, pod: &Key) {
    let index = &mut world.index;
    let Some(entry) = index.pods.get(pod) else {
        return;
    };
    let Some(claim) = entry.claim.clone() else {
        return;
    };
    if entry.busy || entry.facts.leaving || index.keeps(&claim, pod) {
        return;
    }
    let recycle = index
        .pools
        .get(&entry.pool)
        .map_or(Recycle::Delete, |pool| pool.recycle);
    let door = Door::of(entry);
    let reusable = entry.is_ready() && entry.ended.is_none();
    let uid: Uid = entry.uid.clone();
    if let Some(entry) = index.pods.get_mut(pod) {
        entry.busy = true;
    }
    match (recycle, door) {
        (Recycle::Reset, Some(door)) if reusable => world.tray.resets.push((pod.clone(), door)),
        _ => world.tray.writes.push(Write::DeletePod {
            pod: pod.clone(),
            uid,
            version: None,
        }),
    }
}

/// A pod has been wiped: back to its pool with it, or away.
pub(crate) fn wiped(world: &mut World, pod: &Key, result: Result<String, String>, now: Timestamp) {
    let Some(entry) = world.index.pods.get(pod) else {
        return;
    };
    let uid = entry.uid.clone();
    let pool = world.index.pools.get(&entry.pool);
    match (result, pool) {
        (Ok(proof), Some(pool)) => {
            let patch = returned(entry, &pool.uid, &proof, now);
            world.tray.writes.push(Write::ReturnPod {
                pod: pod.clone(),
                patch,
            });
        }
        (result, _) => {
            if let Err(why) = result {
                tracing::warn!(%pod, why, "a pod could not be wiped and is deleted instead");
            }
            world.tray.writes.push(Write::DeletePod {
                pod: pod.clone(),
                uid,
                version: None,
            });
        }
    }
}

/// What makes a wiped pod its pool's again, with the proof that it is clean.
fn returned(pod: &PodEntry, pool_uid: &Uid, proof: &str, now: Timestamp) -> Value {
    json!({ "metadata": {
        "resourceVersion": pod.resource_version,
        "labels": { names::POD_STATE: "ready", names::STATUS: "idle", names::SANDBOX: null },
        "annotations": {
            names::CLAIMED_BY: null, names::CLAIMED_AT: null,
            names::LAST_RELEASED: now.to_string(), names::LAST_RESET: proof,
        },
        "ownerReferences": [pods::pool_reference(&pod.pool.name, pool_uid, true)],
    } })
}
