//! Sandbox: a pod of a pool, claimed, watched over, and given back.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::arl::{Recycle, Sandbox, SandboxPhase, SandboxStatus, names};
use sandlot_decide::{
    expiry::later,
    pool::Health,
    sandbox::{Facts, Limits, PodView, Tasks, Verdict, Wait, judge},
};
use serde_json::{Value, json};

use crate::{
    agents::Door,
    dispatch::{Claim, Wake, Write, status_patch},
    index::{Key, PodEntry, SandboxEntry, Uid},
    pods,
    world::{World, condition, reference},
};

/// A task shorter than this does not show as Bound: two writes would only slow it down.
const BOUND_AFTER: Duration = Duration::from_millis(25);
/// The end of such a task is written into the sandbox when nothing else has been for so long.
const TELL_ACTIVITY: Duration = Duration::from_secs(1);
/// How often the wording of a waiting sandbox may change.
const REWORD: Duration = Duration::from_secs(5);

/// Puts a sandbox in the line for a pod, if it needs one.
pub(crate) fn line_up(world: &mut World, key: &Key) {
    let index = &mut world.index;
    let Some(entry) = index.sandboxes.get(key) else {
        return;
    };
    let pool = entry.pool.clone();
    let needs = !entry.leaving
        && !entry.writing
        && entry.status.pod_name.is_none()
        && !matches!(
            entry.status.phase,
            Some(SandboxPhase::Released | SandboxPhase::Failed)
        )
        && index.pod_of(&entry.uid).is_none();
    if needs {
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
    while let Some((pod, sandbox)) = world
        .index
        .shelves
        .get_mut(pool)
        .and_then(|shelf| shelf.give())
    {
        let claim = claim(world, pool, &pod, &sandbox, now);
        let entry = world.index.sandboxes.get_mut(&sandbox);
        if let (Some(claim), Some(entry)) = (claim, entry) {
            entry.writing = true;
            world.tray.writes.push(Write::Claim(Box::new(claim)));
        } else if let Some(shelf) = world.index.shelves.get_mut(pool) {
            // The one or the other has gone in this very round.
            shelf.take(&pod);
            world.index.marks.sandbox(&sandbox);
        }
    }
}

fn claim(world: &World, pool: &Key, pod: &Key, sandbox: &Key, now: Timestamp) -> Option<Claim> {
    let pod = world.index.pods.get(pod)?;
    let entry = world.index.sandboxes.get(sandbox)?;
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

/// Looks at a sandbox and puts on the tray what is to be said or done.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.sandboxes.get(key) else {
        return;
    };
    if entry.writing {
        return;
    }
    if entry.leaving {
        return free(world, key);
    }
    let pod = world.index.pod_of(&entry.uid);
    let (facts, bound_at) = facts(world, key, entry, pod, now);
    let mut verdict = judge(&facts, now);
    if verdict.end && !world.settings.cleanup && verdict.reason == "IdleTooLong" {
        verdict.end = false;
        verdict.phase = SandboxPhase::Ready;
    }
    for at in [verdict.again, bound_at].into_iter().flatten() {
        world.wakes.at(at, Wake::Sandbox(key.clone()));
    }
    let status = status(world, entry, pod, &verdict, facts.allocated, now);
    let (uid, old, version) = (entry.uid.clone(), &entry.status, &entry.resource_version);
    if verdict.end {
        let patch = status_patch(version, &status);
        let note = format!("{}: {}", verdict.reason, verdict.message);
        world
            .events
            .tell(reference::<Sandbox>(key, &uid), "Released", "Release", note);
        return write(world, key, |key| Write::EndSandbox { key, uid, patch });
    }
    match worth_telling(old, &status, entry.last_ended, now) {
        Telling::Now => {}
        Telling::At(when) => return world.wakes.at(when, Wake::Sandbox(key.clone())),
        Telling::Nothing => return,
    }
    let patch = status_patch(version, &status);
    if verdict.phase == SandboxPhase::Failed && old.phase != Some(SandboxPhase::Failed) {
        let about = reference::<Sandbox>(key, &uid);
        world
            .events
            .warn(about, verdict.reason, "Watch", verdict.message);
    }
    write(world, key, |key| Write::Sandbox { key, patch });
}

fn write(world: &mut World, key: &Key, write: impl FnOnce(Key) -> Write) {
    if let Some(entry) = world.index.sandboxes.get_mut(key) {
        entry.writing = true;
        world.tray.writes.push(write(key.clone()));
    }
}

/// Takes away the finalizer that older operators held their sandboxes with: here a pod knows whose
/// it is, and is given back after its sandbox has gone.
fn free(world: &mut World, key: &Key) {
    let Some(entry) = world.index.sandboxes.get(key).filter(|entry| entry.held) else {
        return;
    };
    let patch = json!({ "metadata": { "resourceVersion": entry.resource_version, "finalizers": entry.other_finalizers } });
    write(world, key, |key| Write::FreeSandbox { key, patch });
}

fn facts(
    world: &World,
    key: &Key,
    entry: &SandboxEntry,
    pod: Option<&PodEntry>,
    now: Timestamp,
) -> (Facts, Option<Timestamp>) {
    let runs = world
        .index
        .queue(key)
        .filter_map(|task| world.runs.get(task));
    let since = runs.map(|run| run.since).min();
    let bound_at = since
        .map(|since| later(since, BOUND_AFTER))
        .filter(|at| *at > now);
    let was_bound = entry.status.phase == Some(SandboxPhase::Bound);
    let stored = entry.status.allocated_at.as_ref().map(|time| time.0);
    let settings = &world.settings;
    let facts = Facts {
        made: entry.seniority.at,
        limits: limits(
            entry,
            settings.idle_timeout,
            settings.max_lifetime,
            settings.grace,
        ),
        phase: entry.status.phase,
        pod: view(world, key, entry, pod),
        allocated: stored.or_else(|| pod.and_then(|pod| pod.claimed_at)),
        tasks: Tasks {
            running: since.is_some() && (bound_at.is_none() || was_bound),
            waiting: world.index.queue(key).next().is_some(),
            last_ended: entry.last_ended,
        },
    };
    (facts, bound_at)
}

fn limits(
    entry: &SandboxEntry,
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    grace: Duration,
) -> Limits {
    let seconds = |value: i64| {
        u64::try_from(value)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs)
    };
    let spec = &entry.spec;
    let keep_alive = spec.keep_alive.unwrap_or(false);
    let finished = spec.ttl_seconds_after_finished;
    Limits {
        keep_alive: keep_alive && finished != Some(0),
        idle: match (finished, spec.idle_timeout_seconds) {
            // Zero seconds after the tasks: not before the first one.
            (Some(0), _) | (None, None) => idle,
            (Some(wanted), _) => seconds(wanted),
            (None, Some(wanted)) => seconds(wanted),
        },
        grace: match finished {
            Some(wanted) => Duration::from_secs(u64::try_from(wanted).unwrap_or(0)),
            None => grace,
        },
        lifetime: spec.max_lifetime_seconds.map_or(lifetime, seconds),
    }
}

fn view(world: &World, key: &Key, entry: &SandboxEntry, pod: Option<&PodEntry>) -> PodView {
    if let Some(pod) = pod {
        return match (&pod.ended, pod.facts.leaving) {
            (Some(words), _) => PodView::Lost(format!("pod {} ended: {words}", pod.key.name)),
            (None, true) => PodView::Lost(format!("pod {} is being deleted", pod.key.name)),
            (None, false) if pod.is_ready() => PodView::Ready,
            (None, false) => PodView::Unready,
        };
    }
    if let Some(name) = &entry.status.pod_name {
        return PodView::Lost(format!("pod {name} is gone"));
    }
    PodView::Waiting(wait(world, key, &entry.pool))
}

fn wait(world: &World, key: &Key, pool_key: &Key) -> Wait {
    let pool = pool_key.name.to_string();
    let Some(found) = world.index.pools.get(pool_key).filter(|pool| !pool.leaving) else {
        return Wait::NoPool { pool };
    };
    if found.replicas == 0 {
        return Wait::PoolStopped { pool };
    }
    let starting = world
        .index
        .pods_of(pool_key)
        .filter(|pod| pod.facts.health == Health::Starting);
    let shelf = world.index.shelves.get(pool_key);
    Wait::PoolEmpty {
        starting: starting.count() as u32 + found.making.len() as u32,
        ahead: shelf.and_then(|shelf| shelf.ahead_of(key)).unwrap_or(0),
        trouble: found
            .failures
            .trouble
            .as_ref()
            .map(|trouble| trouble.message.clone()),
        pool,
    }
}

fn status(
    world: &World,
    entry: &SandboxEntry,
    pod: Option<&PodEntry>,
    verdict: &Verdict,
    allocated: Option<Timestamp>,
    now: Timestamp,
) -> SandboxStatus {
    let old = &entry.status;
    let tasks_can_run = matches!(verdict.phase, SandboxPhase::Ready | SandboxPhase::Bound);
    let conditions = old.conditions.as_deref().unwrap_or_default();
    let ready = condition(
        conditions,
        "Ready",
        tasks_can_run,
        verdict.reason,
        &verdict.message,
        entry.generation,
        now,
    );
    SandboxStatus {
        phase: Some(verdict.phase),
        pod_name: pod
            .map(|pod| pod.key.name.to_string())
            .or_else(|| old.pod_name.clone()),
        pod_ip: pod
            .and_then(|pod| pod.ip.as_deref())
            .map(str::to_owned)
            .or_else(|| old.pod_ip.clone()),
        work_dir: pod
            .map(|_| world.settings.agent.work_dir.clone())
            .or_else(|| old.work_dir.clone()),
        // Statuses carry whole seconds, so that what is read back compares equal.
        allocated_at: old
            .allocated_at
            .clone()
            .or_else(|| allocated.map(whole_second)),
        last_task_time: entry.last_ended.map(whole_second),
        observed_generation: entry.generation,
        conditions: Some(vec![ready]),
    }
}

fn whole_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

enum Telling {
    Now,
    At(Timestamp),
    Nothing,
}

/// Whether a status differs from the written one in something that cannot wait.
fn worth_telling(
    old: &SandboxStatus,
    new: &SandboxStatus,
    ended: Option<Timestamp>,
    now: Timestamp,
) -> Telling {
    let essence = |status: &SandboxStatus| {
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready");
        let reason =
            ready.map(|condition| (condition.reason.clone(), condition.observed_generation));
        (
            status.phase,
            status.pod_name.clone(),
            status.pod_ip.clone(),
            reason,
        )
    };
    if essence(old) != essence(new) {
        return Telling::Now;
    }
    if old.last_task_time != new.last_task_time {
        return match ended.map(|ended| later(ended, TELL_ACTIVITY)) {
            Some(when) if when > now => Telling::At(when),
            _ => Telling::Now,
        };
    }
    let words = |status: &SandboxStatus| {
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready");
        ready.map(|condition| condition.message.clone())
    };
    if words(old) != words(new) {
        // `now` in whole steps: everybody rewords at the same few moments, and not more often.
        let step = REWORD.as_secs() as i64;
        let second = now.as_second();
        return if second % step == 0 {
            Telling::Now
        } else {
            Telling::At(
                Timestamp::from_second(second - second % step + step).unwrap_or(Timestamp::MAX),
            )
        };
    }
    Telling::Nothing
}

/// Gives back a pod whose sandbox is gone: it is deleted, or wiped and returned.
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
    let door = entry.ip.clone().map(|ip| Door {
        pod: entry.uid.clone(),
        ip,
        key: entry.agent_key,
    });
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
pub(crate) fn wiped(world: &mut World, pod: &Key, result: Result<(), String>) {
    let Some(entry) = world.index.pods.get(pod) else {
        return;
    };
    let uid = entry.uid.clone();
    let pool = world.index.pools.get(&entry.pool);
    match (result, pool) {
        (Ok(()), Some(pool)) => {
            let patch = returned(entry, &pool.uid);
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

fn returned(pod: &PodEntry, pool_uid: &Uid) -> Value {
    json!({ "metadata": {
        "resourceVersion": pod.resource_version,
        "labels": { names::POD_STATE: "ready", names::STATUS: "idle", names::SANDBOX: null },
        "annotations": { names::CLAIMED_BY: null, names::CLAIMED_AT: null },
        "ownerReferences": [pods::pool_reference(&pod.pool.name, pool_uid, true)],
    } })
}
