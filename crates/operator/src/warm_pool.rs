//! WarmPool: as many idle pods ready as the pool asks for.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sandlot_api::arl::{PoolPhase, WarmPool, WarmPoolStatus};
use sandlot_decide::{
    expiry::later,
    pool::{self, Counts, Health, Plan, Share, Sizing, Trouble, Use, Why},
};

use crate::{
    dispatch::{Wake, Write},
    index::{Coming, Key, PoolEntry},
    pods::{
        self, Owner,
        stock::{COUNTS_APART, Order, care},
    },
    rounds::{LastTold, writes::status_patch},
    world::{World, condition, reference},
};

/// Whoever waits for a pod hears how far it is no more often than this, and in a long line less
/// often: each is a write, and those in front need the writes to go on.
const REWORD: Duration = Duration::from_secs(5);
const REWORD_EACH: Duration = Duration::from_millis(20);

/// Looks at a pool and puts on the tray what is to be done.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let starting = Share::Count(world.settings.max_starting);
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    if entry.leaving {
        return;
    }
    let shelf = world.index.shelves.get(key);
    let giving = shelf.is_some_and(|shelf| shelf.is_giving());
    let wanted = shelf.map_or(0, |shelf| shelf.wanted());
    let replaces = entry.stock.replaces(giving, wanted, now);
    if let Err(next) = replaces.and_then(|()| entry.stock.breathe(now)) {
        world.wakes.at(next, Wake::Pool(key.clone()));
        return;
    }

    let Some(entry) = world.index.pools.get(key) else {
        return;
    };
    let facts = facts(world, key, entry);
    let shelf = world.index.shelves.get(key);
    let order = Order {
        sizing: Sizing::Idle {
            replicas: entry.replicas,
        },
        care: care(starting, Share::Percent(25)),
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
    tell_waiting(world, key, &facts, plan.trouble, now);
}

/// Lets those who wait for a pod know how far theirs is, now and then.
fn tell_waiting(
    world: &mut World,
    key: &Key,
    pods: &[pool::Pod],
    trouble: Option<Trouble>,
    now: Timestamp,
) {
    let shelf = world.index.shelves.get(key);
    let waiting = shelf.map_or(0, |shelf| shelf.claimants().count());
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    let starting = |pod: &&pool::Pod| pod.health == Health::Starting && !pod.leaving;
    let coming = Coming {
        starting: pods.iter().filter(starting).count() as u32 + entry.stock.making(),
        trouble: trouble.map(|trouble| trouble.message),
        told: entry.coming.told,
    };
    if coming == entry.coming {
        return;
    }
    let is_news = coming.trouble != entry.coming.trouble;
    let pause = if is_news { REWORD } else { reword(waiting) };
    let due = coming.told.map_or(now, |told| later(told, pause));
    if due > now {
        return world.wakes.at(due, Wake::Pool(key.clone()));
    }
    entry.coming = Coming {
        told: Some(now),
        ..coming
    };
    world.index.mark_waiting(key);
}

/// How long so many who wait are told nothing new.
fn reword(waiting: usize) -> Duration {
    REWORD.max(REWORD_EACH.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX)))
}

/// The pool's pods as the engine wants them.
fn facts(world: &World, key: &Key, entry: &PoolEntry) -> Vec<pool::Pod> {
    let shelf = world.index.shelves.get(key);
    let pods = world.index.pods_of(key);
    pods.map(|pod| {
        let mut facts = pod.facts.clone();
        // A pod whose agent does not know this operator is of as little use as an outdated one.
        facts.current = pod.template_revision == entry.template_revision
            && pod.operator_key == world.public_key;
        if pod.busy {
            facts.leaving = facts.used == Use::Idle;
        }
        if shelf.is_some_and(|shelf| shelf.is_assumed(&pod.key)) {
            facts.used = Use::Taken;
        }
        if shelf.is_some_and(|shelf| shelf.is_proving(&pod.key)) {
            facts.health = Health::Starting;
        }
        facts
    })
    .collect()
}

fn carry_out(world: &mut World, key: &Key, plan: &Plan, now: Timestamp) {
    for removal in &plan.remove {
        let pod = key.beside(&removal.pod);
        if let Some(shelf) = world.index.shelves.get_mut(key) {
            shelf.take(&pod);
        }
        let Some(found) = world.index.pods.get_mut(&pod) else {
            continue;
        };
        found.busy = true;
        let (uid, version) = (found.uid.clone(), found.resource_version.clone());
        world.tray.writes.push(Write::DeletePod {
            pod: pod.clone(),
            uid,
            version: Some(version),
        });
        if let (Why::Failing(trouble), Some(entry)) = (&removal.why, world.index.pools.get(key)) {
            let about = reference::<WarmPool>(key, &entry.uid);
            let note = format!("replacing pod {}: {}", pod.name, trouble.message);
            world
                .events
                .warn(about, trouble.kind.reason(), "ReplacePod", note);
        }
    }
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    entry.stock.settle(plan);
    let mut owner = Owner {
        namespace: &key.namespace,
        pool: &key.name,
        uid: &entry.uid,
        template_revision: &entry.template_revision,
        keys: None,
    };
    for _ in 0..plan.create {
        if let Some(own) = &world.key {
            match pods::Keys::new(own) {
                Ok(keys) => owner.keys = Some(keys),
                Err(error) => {
                    // Never a pod that anybody may call; the next look at the pool tries again.
                    tracing::error!(pool = %key.name, %error, "no key for a pod");
                    continue;
                }
            }
        }
        let name: Arc<str> = pods::fresh_name(&key.name).into();
        let pod = Box::new(pods::build(
            &entry.template,
            &name,
            &owner,
            &world.settings.agent,
        ));
        entry.stock.ask(name.clone(), now);
        world.tray.writes.push(Write::CreatePod {
            pool: key.clone(),
            name,
            pod,
        });
    }
}

/// Writes what has changed in the pool's status, a few times a second at most.
fn tell(world: &mut World, key: &Key, plan: &Plan, now: Timestamp) {
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    let status = status(entry, &plan.counts, plan.trouble.as_ref(), now);
    if status == entry.status || entry.writing {
        return;
    }
    if let Some(when) = entry.told.waits(COUNTS_APART, now) {
        return world.wakes.at(when, Wake::Pool(key.clone()));
    }
    entry.told = LastTold::at(now);
    entry.writing = true;
    let patch = status_patch(&entry.resource_version, &status);
    world.tray.writes.push(Write::Pool {
        key: key.clone(),
        patch,
    });
}

fn status(
    entry: &PoolEntry,
    counts: &Counts,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> WarmPoolStatus {
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let wanted = entry.replicas;
    let phase = match counts.ready {
        ready if ready >= wanted && counts.idle <= counts.target.max(wanted) => PoolPhase::Ready,
        0 => PoolPhase::Pending,
        _ => PoolPhase::Scaling,
    };
    let (reason, message) = match (phase, trouble) {
        (PoolPhase::Ready, _) => (
            "PodsReady",
            format!("{} of {wanted} idle pods are ready", counts.ready),
        ),
        (_, Some(trouble)) => (trouble.kind.reason(), trouble.message.clone()),
        (PoolPhase::Pending, None) => ("Starting", "no pod is ready yet".to_owned()),
        (PoolPhase::Scaling, None) => (
            "Scaling",
            format!("{} of {wanted} idle pods are ready", counts.ready),
        ),
    };
    let old = entry.status.conditions.as_deref().unwrap_or_default();
    let make = |kind, status, reason: &str, message: &str| {
        condition(old, kind, status, reason, message, entry.generation, now)
    };
    let failing = match trouble {
        Some(trouble) => make("PodsFailing", true, trouble.kind.reason(), &trouble.message),
        None => make("PodsFailing", false, "PodsHealthy", "no pod fails"),
    };
    WarmPoolStatus {
        ready_replicas: number(counts.ready),
        ready: number(counts.ready),
        allocated_replicas: number(counts.taken),
        allocated: number(counts.taken),
        total: number(counts.total),
        phase: Some(phase),
        observed_generation: entry.generation,
        conditions: Some(vec![
            make("Ready", phase == PoolPhase::Ready, reason, &message),
            failing,
        ]),
    }
}
