//! The plan: what to make and what to remove.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Failures, Health, Pod, Share, Sizing, Trouble, Use};
use crate::{backoff::Backoff, expiry::later};

/// How careful a pool is.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    /// How many pods may be starting at once.
    pub starting: Share,
    /// How many ready idle pods may be missing while a new template is rolled out.
    pub rolling: Share,
    /// How long a failing pod stands before it is replaced, by failures in a row.
    pub replace: Backoff,
    /// A pod that stayed ready so long ends a row of failures.
    pub steady: Duration,
}

/// A pool as the engine sees it.
#[derive(Debug)]
pub struct Pool<'a> {
    /// How many idle pods it wants.
    pub sizing: Sizing,
    /// How careful it is.
    pub care: Care,
    /// Its pods.
    pub pods: &'a [Pod],
    /// Pods asked for and not seen yet.
    pub creating: u32,
    /// Pods that the waiting claims want.
    pub wanted: u32,
    /// Failures in a row so far.
    pub failures: &'a Failures,
}

/// Why a pod is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It fails.
    Failing(Trouble),
    /// The pool is larger than wanted.
    Surplus,
    /// The pool's template has changed.
    OldTemplate,
    /// Somebody asked for it.
    Evicted,
}

/// A pod to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub pod: Arc<str>,
    /// Why.
    pub why: Why,
}

/// What a pool's pods add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Idle and ready.
    pub ready: u32,
    /// Idle, ready or not.
    pub idle: u32,
    /// In use.
    pub taken: u32,
    /// All that are not leaving.
    pub total: u32,
    /// Made from the present template.
    pub updated: u32,
    /// How many idle pods are wanted.
    pub target: u32,
}

/// What to do about a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many pods to make.
    pub create: u32,
    /// Which pods to remove.
    pub remove: Vec<Removal>,
    /// When to look again, if nothing happens before.
    pub again: Option<Timestamp>,
    /// What the pods add up to.
    pub counts: Counts,
    /// The worst trouble there is.
    pub trouble: Option<Trouble>,
    /// Failures in a row from now on.
    pub failures: Failures,
}

/// Decides what to do about a pool.
pub fn plan(pool: &Pool<'_>, now: Timestamp) -> Plan {
    let mut plan = Plan {
        failures: pool.failures.clone(),
        counts: count(pool),
        ..Plan::default()
    };
    let mut idle: Vec<&Pod> = pool
        .pods
        .iter()
        .filter(|pod| pod.used == Use::Idle && !pod.leaving)
        .collect();
    settle(pool, &idle, now, &mut plan);
    replace_failing(pool, &mut idle, now, &mut plan);
    evict(&mut idle, &mut plan);
    roll(pool, &mut idle, &mut plan);
    shrink(pool, &mut idle, &mut plan);
    grow(pool, &idle, now, &mut plan);
    plan
}

fn count(pool: &Pool<'_>) -> Counts {
    let mut counts = Counts::default();
    for pod in pool.pods.iter().filter(|pod| !pod.leaving) {
        counts.total += 1;
        counts.updated += u32::from(pod.current);
        match pod.used {
            Use::Taken => counts.taken += 1,
            Use::Idle => {
                counts.idle += 1;
                counts.ready += u32::from(matches!(pod.health, Health::Ready { .. }));
            }
        }
    }
    let idle = counts.idle.saturating_add(pool.creating);
    counts.target = pool.sizing.idle(idle, counts.taken, pool.wanted);
    counts
}

/// Ends a row of failures once a pod made after the last one has stood well for a while.
fn settle(pool: &Pool<'_>, idle: &[&Pod], now: Timestamp, plan: &mut Plan) {
    let Some(last) = pool.failures.last else {
        return;
    };
    let steady = idle.iter().filter_map(|pod| match pod.health {
        // Creation times are whole seconds, so one of the same second counts as later.
        Health::Ready { since } if pod.made.at.as_second() >= last.as_second() => {
            Some(later(since, pool.care.steady))
        }
        _ => None,
    });
    match steady.min() {
        Some(at) if at <= now => plan.failures = Failures::default(),
        Some(at) => look_at(plan, at),
        None => {}
    }
}

/// Replaces failing pods, all together and each time later than the last; until then they keep
/// their place, where somebody can look at them.
fn replace_failing(pool: &Pool<'_>, idle: &mut Vec<&Pod>, now: Timestamp, plan: &mut Plan) {
    let troubles = idle.iter().filter_map(|pod| match &pod.health {
        Health::Failing(trouble) => Some(trouble),
        _ => None,
    });
    plan.trouble = troubles.min_by_key(|trouble| trouble.since).cloned();
    if plan.trouble.is_none() && plan.failures.count > 0 {
        plan.trouble = plan.failures.trouble.clone();
    }
    let due = plan.failures.last.map_or(now, |last| {
        later(last, pool.care.replace.after(plan.failures.count))
    });
    let mut replaced = None;
    idle.retain(|pod| {
        let Health::Failing(trouble) = &pod.health else {
            return true;
        };
        if !trouble.kind.is_replaced() {
            return true;
        }
        if due > now {
            look_at(plan, due);
            return true;
        }
        remove(plan, pod, Why::Failing(trouble.clone()));
        replaced = Some(trouble.clone());
        false
    });
    if let Some(trouble) = replaced {
        plan.failures = Failures {
            count: plan.failures.count.saturating_add(1),
            last: Some(now),
            trouble: Some(trouble),
        };
    }
}

fn evict(idle: &mut Vec<&Pod>, plan: &mut Plan) {
    idle.retain(|pod| {
        if pod.evict {
            remove(plan, pod, Why::Evicted);
        }
        !pod.evict
    });
}

/// Replaces idle pods of an old template: those not ready at once, ready ones a few at a time.
fn roll(pool: &Pool<'_>, idle: &mut Vec<&Pod>, plan: &mut Plan) {
    if idle.iter().all(|pod| pod.current) {
        return;
    }
    let ready = |pod: &Pod| matches!(pod.health, Health::Ready { .. });
    let ready_now = idle.iter().filter(|pod| ready(pod)).count() as u32;
    let target = plan.counts.target;
    let fewest = target.saturating_sub(pool.care.rolling.of(target));
    let mut spare = ready_now.saturating_sub(fewest);
    // The oldest go first: they have been warm on the old template longest.
    let mut order: Vec<&Pod> = idle.iter().copied().filter(|pod| !pod.current).collect();
    order.sort_by_key(|pod| (ready(pod), pod.made));
    for pod in order {
        if ready(pod) {
            if spare == 0 {
                break;
            }
            spare -= 1;
        }
        remove(plan, pod, Why::OldTemplate);
        idle.retain(|kept| kept.name != pod.name);
    }
}

/// Removes what is too much: failing pods first, then those not ready, then the youngest.
fn shrink(pool: &Pool<'_>, idle: &mut Vec<&Pod>, plan: &mut Plan) {
    let have = (idle.len() as u32).saturating_add(pool.creating);
    let surplus = have.saturating_sub(plan.counts.target) as usize;
    if surplus == 0 {
        return;
    }
    let worth = |pod: &Pod| match pod.health {
        Health::Failing(_) => 0,
        Health::Starting => 1,
        Health::Ready { .. } => 2,
    };
    idle.sort_by_key(|pod| (worth(pod), Reverse(pod.made)));
    for pod in idle.drain(..surplus.min(idle.len())) {
        remove(plan, pod, Why::Surplus);
    }
}

/// Makes what is missing, unless the API refused lately.
fn grow(pool: &Pool<'_>, idle: &[&Pod], now: Timestamp, plan: &mut Plan) {
    let there = idle.len() as u32;
    if there >= plan.counts.target {
        forget_refusal(plan);
    }
    let have = there.saturating_add(pool.creating);
    let missing = plan.counts.target.saturating_sub(have);
    if missing == 0 {
        return;
    }
    if let (Some(last), Some(trouble)) = (plan.failures.last, &plan.failures.trouble)
        && !trouble.kind.is_replaced()
    {
        let due = later(last, pool.care.replace.after(plan.failures.count));
        if due > now {
            look_at(plan, due);
            return;
        }
    }
    let starting = idle
        .iter()
        .filter(|pod| pod.health == Health::Starting)
        .count() as u32;
    let starting = starting.saturating_add(pool.creating);
    // A share is one of all the pods that there will be.
    let all = plan.counts.target.saturating_add(plan.counts.taken);
    let at_once = pool.care.starting.of(all).saturating_sub(starting);
    plan.create = missing.min(at_once);
}

/// Nothing more is asked for, so nothing is refused.
fn forget_refusal(plan: &mut Plan) {
    let trouble = plan.trouble.as_ref();
    if trouble.is_some_and(|trouble| trouble.kind.is_refusal()) {
        plan.failures = Failures::default();
        plan.trouble = None;
    }
}

fn remove(plan: &mut Plan, pod: &Pod, why: Why) {
    plan.remove.push(Removal {
        pod: pod.name.clone(),
        why,
    });
}

fn look_at(plan: &mut Plan, at: Timestamp) {
    plan.again = Some(plan.again.map_or(at, |sooner| sooner.min(at)));
}
