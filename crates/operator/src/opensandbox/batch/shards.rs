//! The tasks of a batch: sent to the executors, followed, stopped.

use sandlot_api::opensandbox::{TaskResourcePolicy, names};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        index::{BatchEntry, Executor, PodEntry},
        recycle,
        tasks::{Door, Errand, News, Order, Purpose, Standing, Told, task_of},
        world::World,
    },
    may_run,
};
use crate::index::{Key, Uid};

/// Sends couriers for what is to be run or stopped.
pub(super) fn look(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    if !entry.has_tasks() {
        return;
    }
    let replicas = entry.replicas();
    for index in 0..replicas {
        entry.shards.entry(index).or_default();
    }
    entry.task_trouble = entry.task_trouble.take().filter(|(index, _)| {
        let shard = entry.shards.get(index);
        shard.is_some_and(|shard| shard.standing == Standing::Unknown)
    });
    let indexes: Vec<usize> = entry.shards.keys().copied().collect();
    for index in indexes {
        look_at(world, key, index, replicas);
    }
}

fn look_at(world: &mut World, key: &Key, index: usize, replicas: usize) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let pod = world
        .index
        .pod_at(key, entry, index)
        .filter(|pod| pod.lives());
    let place = pod.map_or(Place::Nowhere, |pod| place_of(world, entry, pod));
    let closed = pod.map(closed).unwrap_or_default();
    let gone = pod.map(|pod| pod.key.clone());
    let releases = entry.spec.task_resource_policy_when_completed == TaskResourcePolicy::Release;
    let (may_run, pooled) = (may_run(entry), entry.slots.at(index).cloned());
    let Some(shard) = world
        .index
        .batches
        .get_mut(key)
        .and_then(|entry| entry.shards.get_mut(&index))
    else {
        return;
    };
    let (pod, door) = match place {
        Place::At(pod, door) => (pod, door),
        Place::Nowhere => {
            shard.call_off();
            if !shard.standing.is_over() {
                shard.standing = Standing::Pending;
            }
            return;
        }
        Place::Closed => {
            shard.call_off();
            if index >= replicas {
                // Nobody can ask it whether anything is left of a task.
                if let Some(pod) = gone {
                    recycle::delete(world, &pod);
                }
            } else if !shard.standing.is_over() {
                shard.standing = Standing::Unknown;
                trouble(world, key, index, closed);
            }
            return;
        }
    };
    let (over, stopped) = (
        shard.standing.is_over(),
        shard.stopped_in.as_ref() == Some(&pod),
    );
    let surplus = index >= replicas;
    if surplus || (over && releases) {
        if !stopped {
            return send(world, key, index, pod, door, Purpose::Stop);
        }
        if !surplus && let Some(entry) = world.index.batches.get_mut(key) {
            let name = pooled.unwrap_or_else(|| BatchEntry::own_pod(key, index));
            entry.slots.give_back(name);
            world.index.marks.batches.insert(key.clone());
        }
        return;
    }
    if !over && may_run {
        send(world, key, index, pod, door, Purpose::Run);
    }
}

/// Keeps what is wrong with a task, to be said with the batch's condition.
fn trouble(world: &mut World, key: &Key, index: usize, why: String) {
    if let Some(entry) = world.index.batches.get_mut(key)
        && entry.task_trouble.is_none()
    {
        entry.task_trouble = Some((index, why));
    }
}

/// Sends a courier to a pod, unless one is under way there for the same.
pub(super) fn send(
    world: &mut World,
    key: &Key,
    index: usize,
    pod: Uid,
    door: Door,
    purpose: Purpose,
) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    let errand = match purpose {
        Purpose::Stop => Ok(Errand::Stop),
        Purpose::Run => {
            task_of(&key.name, &entry.spec, index).map(|task| Errand::Run(Box::new(task)))
        }
    };
    let shard = entry.shards.entry(index).or_default();
    if shard.is_under_way(&pod, purpose) {
        return;
    }
    shard.call_off();
    let errand = match errand {
        Ok(errand) => errand,
        Err(why) => {
            shard.standing = Standing::Unknown;
            entry.task_trouble = Some((index, why));
            return;
        }
    };
    let cancel = CancellationToken::new();
    shard.errand = Some((pod.clone(), purpose, cancel.clone()));
    world.tray.orders.push(Order {
        batch: key.clone(),
        uid: entry.uid.clone(),
        index,
        pod,
        door,
        errand,
        cancel,
    });
}

/// Where a pod's executor is found.
pub(super) enum Place {
    /// Nowhere yet: the pod has no address.
    Nowhere,
    /// Here.
    At(Uid, Door),
    /// It would have to be called in the open, which nobody has asked for.
    Closed,
}

/// Where a pod's executor is found. In the open it is called only where its own batch or pool
/// asks for that, or where this operator proves itself to nobody.
pub(super) fn place_of(world: &World, batch: &BatchEntry, pod: &PodEntry) -> Place {
    let Some(ip) = pod.ip.clone() else {
        return Place::Nowhere;
    };
    let key = pod.agent_key;
    let asked = batch.plain || pod.executor == Executor::Plain;
    match key.is_some() || asked || world.key.is_none() {
        true => Place::At(pod.uid.clone(), Door { ip, key }),
        false => Place::Closed,
    }
}

/// What is said of a task whose pod has no executor of ours.
fn closed(pod: &PodEntry) -> String {
    format!(
        "pod {} has no container named {}, which would be Sandlot's own executor; the annotation \
         {}: {} lets one of the template's be called in the open",
        pod.key.name,
        names::EXECUTOR_CONTAINER,
        names::TASK_EXECUTOR,
        names::PLAIN_EXECUTOR,
    )
}

/// A courier tells something.
pub(crate) fn news(world: &mut World, news: News) {
    let key = news.batch;
    let Some(entry) = world
        .index
        .batches
        .get_mut(&key)
        .filter(|entry| entry.uid == news.uid)
    else {
        return;
    };
    let asleep = entry.is_asleep();
    let Some(shard) = entry.shards.get_mut(&news.index) else {
        return;
    };
    // What an earlier pod's executor had to say is of no interest any more.
    if shard
        .errand
        .as_ref()
        .is_none_or(|(pod, ..)| *pod != news.pod)
    {
        return;
    }
    match news.what {
        Told::Stands(standing, why) => {
            shard.standing = standing;
            if standing.is_over() {
                shard.errand = None;
            }
            if let Some(why) = why {
                entry.task_trouble = Some((news.index, why));
            }
        }
        Told::Stopped => {
            shard.errand = None;
            shard.stopped_in = Some(news.pod);
        }
        // What is left of it is saved as the files it wrote, and goes with its pod.
        Told::Unreachable(_) if asleep => {
            shard.errand = None;
            shard.stopped_in = Some(news.pod);
        }
        Told::Unreachable(why) => {
            shard.errand = None;
            tracing::warn!(batch = %key, index = news.index, why, "an executor cannot be reached to stop a task: its pod is deleted");
            let pod = world
                .index
                .batches
                .get(&key)
                .and_then(|entry| world.index.pod_at(&key, entry, news.index))
                .filter(|pod| pod.uid == news.pod)
                .map(|pod| pod.key.clone());
            if let Some(pod) = pod {
                recycle::delete(world, &pod);
            }
        }
    }
    world.index.marks.batches.insert(key);
}
