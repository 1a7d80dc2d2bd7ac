//! Which pod goes to which sandbox, and what is written to make it so.

use jiff::Timestamp;
use sandlot_api::arl::{Recycle, SandboxPhase, names};
use sandlot_decide::sandbox::Verdict;
use serde_json::json;

use super::status::status;
use crate::{
    dispatch::{Claim, Wake, Write},
    index::Key,
    pods,
    rounds::writes::status_patch,
    world::World,
};

/// Puts a sandbox in the line for a pod, if it needs one.
pub(crate) fn line_up(world: &mut World, key: &Key) {
    let index = &mut world.index;
    let Some(entry) = index.sandboxes.get(key) else {
        return;
    };
    let pool = entry.pool.clone();
    if index.needs_pod(entry) {
        let seniority = entry.seniority;
        index
            .shelves
            .entry(pool.clone())
            .or_default()
            .wait(key.clone(), seniority, 1);
        index.marks.pool(&pool);
    } else {
        index.leave_line(&pool, key);
    }
}

/// Gives out what is on a pool's shelf: the pod ready longest to the sandbox waiting longest.
pub(crate) fn give_out(world: &mut World, pool: &Key, now: Timestamp) {
    let shelf = world.index.shelves.get_mut(pool);
    if let Some(next) = shelf.and_then(|shelf| shelf.trust(now)) {
        world.wakes.at(next, Wake::Pool(pool.clone()));
    }
    while let Some((pod, sandbox)) = world
        .index
        .shelves
        .get_mut(pool)
        .and_then(|shelf| shelf.give())
    {
        let claim = claim(world, pool, &pod, &sandbox, now);
        let entry = world.index.sandboxes.get_mut(&sandbox);
        if let (Some(claim), Some(entry)) = (claim, entry) {
            entry.claiming = true;
            world.tray.writes.push(Write::Claim(Box::new(claim)));
        } else if let Some(shelf) = world.index.shelves.get_mut(pool) {
            // The one or the other has gone in this very round, or the sandbox has what it needs.
            shelf.take(&pod);
            world.index.marks.pod(&pod);
            world.index.marks.sandbox(&sandbox);
        }
    }
}

fn claim(world: &World, pool: &Key, pod: &Key, sandbox: &Key, now: Timestamp) -> Option<Claim> {
    let pod = world.index.pods.get(pod)?;
    let entry = world.index.sandboxes.get(sandbox)?;
    if !world.index.needs_pod(entry) {
        return None;
    }
    let owner = world.index.pools.get(pool);
    let mut owners = vec![json!({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "Sandbox", "name": &*sandbox.name, "uid": &*entry.uid,
        "controller": true, "blockOwnerDeletion": false,
    })];
    // A pod to be reused must outlive its sandbox; any other goes with it, operator or not. Neither
    // goes with the pool while the sandbox is there.
    if let Some(owner) = owner.filter(|owner| owner.recycle == Recycle::Reset) {
        owners.push(pods::pool_reference(&pool.name, &owner.uid, false));
    }
    let pod_patch = json!({ "metadata": {
        "resourceVersion": pod.resource_version,
        "labels": {
            names::POD_STATE: "allocated", names::STATUS: "allocated",
            names::SANDBOX: names::label_value(&sandbox.name),
        },
        "annotations": { names::CLAIMED_BY: &*entry.uid, names::CLAIMED_AT: now.to_string() },
        "ownerReferences": owners,
    } });
    let verdict = Verdict {
        phase: SandboxPhase::Ready,
        reason: "PodReady",
        message: "tasks can run".to_owned(),
        end: false,
        again: None,
    };
    let status = status(world, entry, Some(pod), &verdict, Some(now), now);
    Some(Claim {
        pod: pod.key.clone(),
        pod_revision: pod.revision,
        pod_patch,
        sandbox: sandbox.clone(),
        sandbox_uid: entry.uid.clone(),
        status_patch: status_patch(&entry.resource_version, status),
    })
}
