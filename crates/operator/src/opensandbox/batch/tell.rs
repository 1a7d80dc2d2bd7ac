//! What is said about a batch: addresses and finalizers, then the status.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_api::opensandbox::{
    BatchPhase, BatchSandbox, BatchSandboxStatus, TaskResourcePolicy, names,
};
use sandlot_decide::{
    batch::{Facts, Lack, Unwell, stand},
    pool::Health,
};
use serde_json::{Map, Value, json};

use super::super::{
    condition::holds,
    index::{BatchEntry, PodEntry, write_list},
    tasks,
    world::{Wake, World},
    writes::Write,
};
use super::word::{Word, at_rest, standing_failure};
use crate::{index::Key, rounds::LastTold, world::reference};

/// Counts are written no more often than this; a new phase or reason at once.
const TELL: Duration = Duration::from_millis(100);
/// How often the wording alone may change.
const REWORD: Duration = Duration::from_secs(2);

/// Writes what has changed.
pub(super) fn look(world: &mut World, key: &Key, word: &Word, now: Timestamp) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    if entry.writing {
        return;
    }
    let view = View::of(world, key, entry);
    let status = status(world, key, entry, &view, word, now);
    let meta = if entry.illegible.is_some() {
        None
    } else {
        meta(entry, &view, word)
    };
    let wait = match (&meta, worth_telling(entry, &status)) {
        (Some(_), _) | (None, Telling::Now) => None,
        (None, Telling::Nothing) => return,
        (None, Telling::After(apart)) => entry.told.waits(apart, now),
    };
    if let Some(when) = wait {
        return world.wakes.at(when, Wake::Batch(key.clone()));
    }
    warn(world, key, &status);
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    let changed = entry.status.as_ref() != Some(&status);
    entry.told = LastTold::at(now);
    entry.writing = true;
    if let Some(note) = entry.made.tell() {
        let about = reference::<BatchSandbox>(key, &entry.uid);
        world
            .events
            .tell(about, "SuccessfulCreate", "CreatePod", note);
    }
    world.tray.writes.push(Write::Batch {
        key: key.clone(),
        version: entry.resource_version.clone(),
        meta,
        status: changed.then(|| json!(status)),
    });
}

/// A batch's pods, counted.
#[derive(Default)]
struct View {
    addresses: Vec<String>,
    there: u32,
    placed: u32,
    ready: u32,
    done: u32,
    unwell: Option<Unwell>,
}

impl View {
    fn of(world: &World, key: &Key, entry: &BatchEntry) -> Self {
        let mut view = Self::default();
        for index in 0..entry.replicas() {
            view.done += u32::from(entry.slots.is_done(index));
            let pod = world
                .index
                .pod_at(key, entry, index)
                .filter(|pod| !pod.facts.leaving);
            let Some(pod) = pod else {
                view.addresses.push(String::new());
                continue;
            };
            view.count(pod);
        }
        // What comes after the last pod says nothing; what comes before keeps its place.
        while view.addresses.last().is_some_and(String::is_empty)
            && view.addresses.len() > view.there as usize
        {
            view.addresses.pop();
        }
        view
    }

    fn count(&mut self, pod: &PodEntry) {
        self.addresses
            .push(pod.ip.as_deref().unwrap_or_default().to_owned());
        self.there += 1;
        self.placed += u32::from(pod.ip.is_some() || pod.node.is_some());
        self.ready += u32::from(pod.is_ready());
        if let Health::Failing(trouble) = &pod.facts.health {
            match &mut self.unwell {
                Some(unwell) => unwell.count += 1,
                None => {
                    self.unwell = Some(Unwell {
                        count: 1,
                        sample: pod.key.name.to_string(),
                        trouble: trouble.clone(),
                    });
                }
            }
        }
    }
}

/// What keeps a batch from having all its pods.
fn lack(world: &World, key: &Key, entry: &BatchEntry, view: &View) -> Option<Lack> {
    if let Some(why) = &entry.illegible {
        return Some(Lack::Illegible { why: why.clone() });
    }
    let wanted = u32::try_from(entry.replicas()).unwrap_or(u32::MAX) - view.done;
    if entry.spec.replicas > names::MOST_REPLICAS {
        let most = names::MOST_REPLICAS.unsigned_abs();
        return Some(Lack::TooMany { most });
    }
    let missing = wanted.saturating_sub(view.there);
    if missing == 0 {
        return None;
    }
    if entry.spec.pool_ref == names::ANY_POOL {
        let why = entry.unsuited.clone()?;
        return Some(Lack::NoneSuits { why });
    }
    let Some(pool_key) = entry.pool(key) else {
        if let Some(refused) = &entry.refused {
            return Some(Lack::Refused {
                message: refused.message.clone(),
            });
        }
        return entry.spec.template.is_none().then_some(Lack::NoTemplate);
    };
    let pool = pool_key.name.to_string();
    let Some(found) = world
        .index
        .pools
        .get(&pool_key)
        .filter(|pool| !pool.leaving)
    else {
        return Some(Lack::NoPool { pool });
    };
    let (mut starting, mut all, mut trouble) = (found.stock.making(), 0, None);
    for pod in world.index.pods_of(&pool_key, &found.uid) {
        all += 1;
        match &pod.facts.health {
            Health::Starting if !pod.facts.leaving => starting += 1,
            Health::Failing(why) => trouble = Some(why.clone()),
            _ => {}
        }
    }
    let shelf = world.index.shelves.get(&pool_key);
    Some(Lack::PoolExhausted {
        missing,
        starting,
        full: all >= u32::try_from(found.spec.capacity_spec.pool_max).unwrap_or(0),
        ahead: shelf.and_then(|shelf| shelf.ahead_of(key)).unwrap_or(0),
        trouble: trouble.or_else(|| found.stock.trouble().cloned()),
        pool,
    })
}

fn status(
    world: &World,
    key: &Key,
    entry: &BatchEntry,
    view: &View,
    word: &Word,
    now: Timestamp,
) -> BatchSandboxStatus {
    let facts = Facts {
        wanted: u32::try_from(entry.replicas()).unwrap_or(u32::MAX) - view.done,
        ready: view.ready,
        lack: lack(world, key, entry, view),
        unwell: view.unwell.clone(),
    };
    let mut standing = word.phase.map_or_else(|| stand(&facts), at_rest);
    if let Some((index, why)) = &entry.task_trouble {
        standing.message += &format!("; task {index}: {why}");
    }
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let old = entry.status.as_ref();
    let mut status = BatchSandboxStatus {
        observed_generation: entry.generation,
        replicas: number(view.there),
        allocated: number(view.placed),
        ready: number(view.ready),
        phase: Some(standing.phase),
        pause_observed_generation: match word.answered {
            true => entry.generation,
            false => old.and_then(|old| old.pause_observed_generation),
        },
        selector: entry
            .spec
            .pool_ref
            .is_empty()
            .then(|| format!("{}={}", names::BATCH, key.name)),
        ..BatchSandboxStatus::default()
    };
    count_tasks(entry, &mut status);
    let old = old.and_then(|old| old.conditions.as_deref());
    let old = old.unwrap_or_default();
    let main = (standing.condition, standing.reason, standing.message);
    let mut conditions = vec![holds(old, main, now)];
    match &word.failure {
        Some(failure) => conditions.push(holds(old, failure.clone(), now)),
        None => conditions.extend(standing_failure(entry, word, old)),
    }
    status.conditions = Some(conditions);
    status
}

fn count_tasks(entry: &BatchEntry, status: &mut BatchSandboxStatus) {
    if !entry.has_tasks() {
        return;
    }
    for index in 0..entry.replicas() {
        let standing = entry.shards.get(&index).map(|shard| shard.standing);
        let count = match standing.unwrap_or_default() {
            tasks::Standing::Pending => &mut status.task_pending,
            tasks::Standing::Running => &mut status.task_running,
            tasks::Standing::Succeeded => &mut status.task_succeed,
            tasks::Standing::Failed => &mut status.task_failed,
            tasks::Standing::Unknown => &mut status.task_unknown,
        };
        *count += 1;
    }
}

/// The annotations and finalizers that are not as they should be.
fn meta(entry: &BatchEntry, view: &View, word: &Word) -> Option<Value> {
    let slots = &entry.slots;
    let mut wanted = vec![
        (
            names::ALLOCATED,
            !slots.given().is_empty(),
            write_list(slots.given().iter()),
        ),
        (
            names::RELEASE,
            !slots.release().is_empty(),
            write_list(slots.release().iter()),
        ),
        (
            names::RELEASED,
            !slots.released().is_empty(),
            write_list(slots.released().iter()),
        ),
        // A list of addresses can always be written.
        (
            names::ENDPOINTS,
            view.there > 0,
            serde_json::to_string(&view.addresses).unwrap_or_default(),
        ),
    ];
    // What ended is remembered where its pod goes away.
    let gives_back = entry.spec.task_resource_policy_when_completed == TaskResourcePolicy::Release;
    if entry.has_tasks() && (gives_back || word.asleep) {
        let letters: String = (0..entry.replicas())
            .map(|index| {
                entry
                    .shards
                    .get(&index)
                    .map_or('-', |shard| shard.standing.letter())
            })
            .collect();
        let needed = word.asleep || !slots.release().is_empty();
        wanted.push((names::TASK_RESULTS, needed, letters));
    }
    let mut notes = Map::new();
    for (name, needed, text) in wanted {
        let there = entry.notes.get(name);
        if (needed || there.is_some()) && there != Some(&text) {
            notes.insert(name.to_owned(), json!(text));
        }
    }
    let mut meta = Map::new();
    if !notes.is_empty() {
        meta.insert("annotations".to_owned(), Value::Object(notes));
    }
    let mut finalizers = entry.finalizers.clone();
    // No finalizer can be added to what is being deleted.
    if !entry.leaving {
        let mut hold = |name: &str, needed: bool| {
            if needed && !entry.is_held_by(name) {
                finalizers.push(name.to_owned());
            }
        };
        hold(names::TASK_CLEANUP, entry.has_tasks() && view.there > 0);
        hold(names::POOL_ALLOCATION, slots.held().next().is_some());
    }
    if finalizers != entry.finalizers {
        meta.insert("finalizers".to_owned(), json!(finalizers));
    }
    (!meta.is_empty()).then_some(Value::Object(meta))
}

enum Telling {
    Now,
    After(Duration),
    Nothing,
}

fn reason(status: &BatchSandboxStatus) -> Option<&str> {
    status.conditions.as_ref()?.first()?.reason.as_deref()
}

/// Whether a status differs from the written one, and in something that can wait.
fn worth_telling(entry: &BatchEntry, new: &BatchSandboxStatus) -> Telling {
    let Some(old) = &entry.status else {
        return Telling::Now;
    };
    if old == new {
        return Telling::Nothing;
    }
    let marks = |status: &BatchSandboxStatus| {
        (
            status.phase,
            reason(status).map(str::to_owned),
            status.observed_generation,
            status.pause_observed_generation,
        )
    };
    if marks(old) != marks(new) {
        return Telling::Now;
    }
    let mut counts = old.clone();
    counts.conditions = new.conditions.clone();
    match counts == *new {
        true => Telling::After(REWORD),
        false => Telling::After(TELL),
    }
}

/// Says as an event, once, what keeps a batch from being ready.
fn warn(world: &mut World, key: &Key, status: &BatchSandboxStatus) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    let why = status.conditions.iter().flatten().next();
    let reason = why.and_then(|why| why.reason.clone()).unwrap_or_default();
    let message = why.and_then(|why| why.message.clone()).unwrap_or_default();
    let well = entry.leaving
        || reason == "Creating"
        || !matches!(status.phase, Some(BatchPhase::Pending | BatchPhase::Failed));
    if well || entry.warned.as_deref() == Some(reason.as_str()) {
        if well {
            entry.warned = None;
        }
        return;
    }
    entry.warned = Some(reason.clone());
    let about = reference::<BatchSandbox>(key, &entry.uid);
    world.events.warn(about, &reason, "Supply", message);
}
