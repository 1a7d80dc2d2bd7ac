//! Where a batch's pods come from, and where those go that are too many.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use sandlot_api::opensandbox::names;
use sandlot_decide::{expiry::later, pool::Health};

use super::{
    super::{
        answers, build,
        index::{BatchEntry, Origin},
        recycle,
        tasks::Shard,
        world::{Wake, World},
        writes::{Maker, Write},
    },
    assign,
};
use crate::{
    index::{Key, Uid},
    pods,
};

/// A pod that was made and is not seen for so long is not waited for.
const UNSEEN: Duration = Duration::from_secs(60);
/// A pod that has ended lies there for so long, where somebody can look at it.
const LYING: Duration = Duration::from_secs(10);
/// How many pods one look may make; the next look makes more.
const AT_ONCE: usize = 100;

/// Puts a batch in the line for the pods it lacks.
pub(crate) fn line_up(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    if entry.spec.pool_ref == names::ANY_POOL && !entry.leaving && !entry.writing {
        return assign::look(world, key);
    }
    let Some(pool) = entry.pool(key) else { return };
    let waits = !entry.leaving && entry.illegible.is_none() && !entry.is_asleep();
    let lacking = if waits {
        lacking(world, key, entry).len()
    } else {
        0
    };
    let seniority = entry.seniority;
    if lacking == 0 {
        world.index.leave_line(&pool, key);
        return;
    }
    let shelf = world.index.shelves.entry(pool.clone()).or_default();
    shelf.wait(
        key.clone(),
        seniority,
        u32::try_from(lacking).unwrap_or(u32::MAX),
    );
    world.index.marks.pools.insert(pool);
}

/// The indexes of a batch that want a pod of its pool.
fn lacking(world: &World, key: &Key, entry: &BatchEntry) -> Vec<usize> {
    let there = |name: &str| {
        let pod = world.index.pods.get(&key.beside(name));
        pod.is_some_and(|pod| pod.lives())
    };
    let mut empty = entry.slots.empty(entry.replicas(), there);
    // A pod that it made for itself before it named a pool goes on serving.
    empty.retain(|index| {
        world
            .index
            .pod_at(key, entry, *index)
            .is_none_or(|pod| !pod.lives())
    });
    empty
}

/// Gives out what is on a pool's shelf: the pod ready longest to the batch waiting longest.
pub(crate) fn give_out(world: &mut World, pool: &Key) {
    let leaving = world.index.pools.get(pool).is_none_or(|pool| pool.leaving);
    if leaving {
        return;
    }
    // Where each batch wants its pods: looked up once, however many it is given.
    let mut places: HashMap<Key, VecDeque<usize>> = HashMap::new();
    while let Some((pod, batch)) = world
        .index
        .shelves
        .get_mut(pool)
        .and_then(|shelf| shelf.give())
    {
        let wanted = places.entry(batch.clone()).or_insert_with(|| {
            let entry = world.index.batches.get(&batch);
            entry.map_or_else(VecDeque::new, |entry| lacking(world, &batch, entry).into())
        });
        let place = wanted.pop_front();
        let entry = world.index.batches.get_mut(&batch);
        match (place, entry) {
            (Some(index), Some(entry)) => {
                let before = entry.slots.given().get(index).cloned();
                entry.slots.fill(index, pod.name.clone());
                world.index.take_pod(&pod, &batch);
                // Whatever is left of the pod that was lost is its pool's to clear away.
                if let Some(lost) = before.filter(|lost| !lost.is_empty()) {
                    world.index.free_pod(&batch.beside(&lost));
                }
            }
            // It has gone in this very round, or has all it wants.
            _ => {
                if let Some(shelf) = world.index.shelves.get_mut(pool) {
                    shelf.take(&pod);
                }
                world.index.shelve(&pod);
                world.index.leave_line(pool, &batch);
            }
        }
        world.index.marks.batches.insert(batch);
    }
}

/// Makes the pods of a batch that has no pool.
pub(super) fn make(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    entry.making.retain(|_, since| later(*since, UNSEEN) > now);
    if !entry.spec.pool_ref.is_empty() || entry.spec.template.is_none() {
        return;
    }
    if let Some(refused) = &entry.refused
        && refused.until > now
    {
        let until = refused.until;
        return world.wakes.at(until, Wake::Batch(key.clone()));
    }
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let missing: Vec<usize> = (0..entry.replicas())
        .filter(|index| is_missing(world, key, entry, *index))
        .collect();
    let room = AT_ONCE.saturating_sub(entry.making.len());
    for index in missing.into_iter().take(room) {
        make_one(world, key, index, now);
    }
}

fn is_missing(world: &World, key: &Key, entry: &BatchEntry, index: usize) -> bool {
    let own = BatchEntry::own_pod(key, index);
    if entry.making.contains_key(&index)
        || entry.slots.is_releasing(&own)
        || entry.slots.is_done(index)
    {
        return false;
    }
    // A pod of that name must be gone before another can be made.
    if world.index.pods.contains_key(&key.beside(&own)) {
        return false;
    }
    world
        .index
        .pod_at(key, entry, index)
        .is_none_or(|pod| !pod.lives())
}

fn make_one(world: &mut World, key: &Key, index: usize, now: Timestamp) {
    let keys = match world.key.as_ref().map(pods::Keys::new).transpose() {
        Ok(keys) => keys,
        Err(error) => {
            tracing::error!(batch = %key, %error, "no key for a pod");
            return world.failed(Wake::Batch(key.clone()), now);
        }
    };
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    match build::for_batch(key, entry, index, keys, &world.settings.agent) {
        Ok(pod) => {
            entry.making.insert(index, now);
            world.tray.writes.push(Write::CreatePod {
                maker: Maker::Batch(key.clone(), index),
                name: BatchEntry::own_pod(key, index),
                pod: Box::new(pod),
            });
        }
        Err(why) => {
            answers::refuse(entry, why, now);
        }
    }
}

/// Gives back pods at indexes that are too many, after their tasks, the highest index first; and
/// takes away pods of its own that ended or are too many.
pub(super) fn shrink(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    let replicas = entry.replicas();
    for pod in entry.slots.surplus(replicas) {
        let index = entry.slots.index_of(&pod).unwrap_or(usize::MAX);
        if stopped(
            world.index.pods.get(&key.beside(&pod)).map(|pod| &pod.uid),
            entry.shards.get(&index),
        ) {
            entry.shards.remove(&index);
            entry.slots.give_back(pod);
        }
    }
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let (mut away, mut again) = (Vec::new(), false);
    for (pod_key, pod) in own_pods(world, key, entry) {
        let Origin::Batch { index, .. } = &pod.origin else {
            continue;
        };
        if pod.ended.is_some() {
            again = true;
        }
        let released = entry.slots.is_releasing(&pod_key.name);
        let surplus = *index >= replicas && stopped(Some(&pod.uid), entry.shards.get(index));
        let ended = match &pod.facts.health {
            Health::Failing(trouble) if pod.ended.is_some() => later(trouble.since, LYING) <= now,
            _ => false,
        };
        if !pod.facts.leaving && !pod.busy && (surplus || released || ended) {
            away.push((*index, pod_key.clone()));
        }
    }
    if again {
        world.wakes.at(later(now, LYING), Wake::Batch(key.clone()));
    }
    away.sort_by(|one, other| other.cmp(one));
    for (index, pod) in away {
        if index >= replicas
            && let Some(entry) = world.index.batches.get_mut(key)
        {
            entry.shards.remove(&index);
        }
        recycle::delete(world, &pod);
    }
    recycle::take_back(world, key);
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let mut slots = entry.slots.clone();
    let there = |name: &str| world.index.pods.contains_key(&key.beside(name));
    let own: HashSet<_> = (0..replicas)
        .map(|index| BatchEntry::own_pod(key, index))
        .collect();
    slots.trim(replicas, there, |name| own.contains(name));
    if let Some(entry) = world.index.batches.get_mut(key) {
        entry.slots = slots;
    }
}

/// Whether nothing of a task is left: the batch has none, or the pod is gone, or its executor
/// says so.
fn stopped(pod: Option<&Uid>, shard: Option<&Shard>) -> bool {
    match pod {
        Some(pod) if shard.is_some() => is_stopped(pod, shard),
        _ => true,
    }
}

/// Whether a pod's executor says that nothing of a task is left.
pub(super) fn is_stopped(pod: &Uid, shard: Option<&Shard>) -> bool {
    shard.is_some_and(|shard| shard.stopped_in.as_ref() == Some(pod))
}

/// The pods that a batch made for itself.
pub(super) fn own_pods<'a>(
    world: &'a World,
    key: &'a Key,
    entry: &'a BatchEntry,
) -> impl Iterator<Item = (&'a Key, &'a super::super::index::PodEntry)> {
    let pods = world.index.pods_of_batch(key);
    pods.filter(|pod| pod.owner.as_ref() == Some(&entry.uid))
        .map(|pod| (&pod.key, pod))
}
