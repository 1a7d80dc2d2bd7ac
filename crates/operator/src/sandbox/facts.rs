//! What is known of a sandbox, as the decision about it wants it.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_api::arl::SandboxPhase;
use sandlot_decide::{
    expiry::later,
    pool::Health,
    sandbox::{Facts, Limits, PodView, Tasks, Visit, Wait},
};

use crate::{
    index::{Key, PodEntry, SandboxEntry},
    world::World,
};

/// A task shorter than this does not show as Bound: two writes would only slow it down.
const BOUND_AFTER: Duration = Duration::from_millis(200);

/// The facts, and when a task that has just begun will show.
pub(super) fn facts(
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
    // Between two tasks of a queue the sandbox does not cease to be busy.
    let waiting = world.index.queue(key).next().is_some();
    let shown = match since {
        Some(_) => bound_at.is_none() || was_bound,
        None => was_bound && waiting,
    };
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
        // The status has whole seconds: by it alone a sandbox made late in one would be idle a second
        // too soon. The pod knows better.
        allocated: stored.max(pod.and_then(|pod| pod.claimed_at).map(|at| at.min(now))),
        tasks: Tasks {
            running: shown,
            waiting,
            last_ended: entry.last_ended,
        },
        visit: visit(entry, pod),
    };
    (facts, bound_at)
}

/// The last visit that the pod's node or a visitor tells of.
fn visit(entry: &SandboxEntry, pod: Option<&PodEntry>) -> Option<Visit> {
    let told = entry.last_activity.map(|last| Visit { last, lasts: false });
    let seen = pod.and_then(|pod| pod.visit);
    match (seen, told) {
        (Some(seen), Some(told)) => Some(Visit {
            last: seen.last.max(told.last),
            ..seen
        }),
        (seen, told) => seen.or(told),
    }
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
            (None, false) => PodView::Unready(unready(pod)),
        };
    }
    if let Some(name) = &entry.status.pod_name {
        return PodView::Lost(format!("pod {name} is gone"));
    }
    PodView::Waiting(wait(world, key, &entry.pool))
}

fn unready(pod: &PodEntry) -> String {
    let name = &pod.key.name;
    match &pod.facts.health {
        Health::Failing(trouble) => format!("pod {name} is not ready: {}", trouble.message),
        _ => format!("pod {name} is not ready at the moment"),
    }
}

fn wait(world: &World, key: &Key, pool_key: &Key) -> Wait {
    let pool = pool_key.name.to_string();
    let Some(found) = world.index.pools.get(pool_key).filter(|pool| !pool.leaving) else {
        return Wait::NoPool { pool };
    };
    if found.replicas == 0 {
        return Wait::PoolStopped { pool };
    }
    let shelf = world.index.shelves.get(pool_key);
    Wait::PoolEmpty {
        starting: found.coming.starting,
        ahead: shelf.and_then(|shelf| shelf.ahead_of(key)).unwrap_or(0),
        trouble: found.coming.trouble.clone(),
        pool,
    }
}
