//! Pausing a batch of one sandbox, and bringing it back: the steps, and what is said of them.

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_api::opensandbox::{
    BatchPhase, BatchSandbox, SandboxSnapshot, SandboxSnapshotSpec, SnapshotPhase, names,
};
use sandlot_decide::{
    batch::{PauseFacts, PauseStep, PodNow, Saved, next_step},
    pool::Health,
};
use serde_json::json;

use super::{
    super::{
        build,
        index::{BatchEntry, SnapshotEntry},
        recycle, restore,
        snapshot::NOWHERE,
        tasks::{Purpose, Standing},
        world::World,
        writes::Write,
    },
    shards::{self, Place},
    supply,
    word::Word,
};
use crate::{index::Key, world::reference};

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// Brings a pause or a resumption a step further.
pub(super) fn look(world: &mut World, key: &Key, now: Timestamp) -> Word {
    let Some(entry) = world.index.batches.get(key) else {
        return Word::default();
    };
    let (mut word, facts) = (Word::as_written(entry), facts(world, key, entry));
    // No pod is made before what was saved is its image, however long that takes to be written.
    word.asleep |= word.phase == Some(BatchPhase::Resuming) && !facts.from_saved;
    if entry.writing {
        return word;
    }
    match next_step(&facts) {
        PauseStep::Live => clear_up(world, key),
        PauseStep::Wait => rest(world, key),
        PauseStep::BeginPause => return Word::answer(Some(BatchPhase::Pausing), true),
        PauseStep::StopTask => {
            stop_task(world, key);
        }
        PauseStep::ClearSaved => remove_snapshot(world, key),
        PauseStep::Save => save(world, key),
        PauseStep::LeavePool => leave_pool(world, key),
        PauseStep::StopPod => stop_pods(world, key),
        PauseStep::Rest => {
            let answered = wishes(world, key, true);
            return Word {
                answered,
                ..Word::answer(Some(BatchPhase::Paused), true)
            };
        }
        PauseStep::BeginResume => return Word::answer(Some(BatchPhase::Resuming), true),
        PauseStep::PutImages => put_images(world, key, now),
        PauseStep::Start => {}
        PauseStep::Done => {
            let answered = wishes(world, key, false);
            return Word {
                answered,
                ..Word::answer(None, false)
            };
        }
        PauseStep::PauseFailed(reason, why) => {
            return failed(world, key, "PauseFailed", reason, why, None);
        }
        PauseStep::ResumeFailed(reason, why, stays) => {
            let phase = stays.then_some(BatchPhase::Paused);
            return failed(world, key, "ResumeFailed", reason, why, phase);
        }
    }
    word
}

/// The snapshot that a batch is paused with.
fn snapshot_of(key: &Key) -> Key {
    key.beside(&format!("{}-pause", key.name))
}

fn wishes(world: &World, key: &Key, pause: bool) -> bool {
    let entry = world.index.batches.get(key);
    entry.is_some_and(|entry| entry.spec.pause == Some(pause))
}

fn facts(world: &World, key: &Key, entry: &BatchEntry) -> PauseFacts {
    let status = entry.status.as_ref();
    let answered = status.and_then(|status| status.pause_observed_generation);
    let snapshot = world.index.snapshots.get(&snapshot_of(key));
    let own = snapshot.filter(|snapshot| snapshot.owner.as_ref() == Some(&entry.uid));
    let there = world.index.pod_at(key, entry, 0);
    let pod = there.filter(|pod| pod.lives());
    PauseFacts {
        phase: status.and_then(|status| status.phase),
        wish: entry.spec.pause,
        fresh: entry.generation > answered,
        replicas: u32::try_from(entry.replicas()).unwrap_or(u32::MAX),
        cannot_save: cannot_save(world, key),
        task_stopped: !entry.has_tasks()
            || pod.is_none_or(|pod| {
                let asked = shards::place_of(world, entry, pod);
                !matches!(asked, Place::At(..))
                    || supply::is_stopped(&pod.uid, entry.shards.get(&0))
            }),
        pod: match pod {
            None if there.is_some() => PodNow::Leaving,
            None => PodNow::Gone,
            Some(pod) if pod.is_ready() => PodNow::Ready,
            Some(pod) => match &pod.facts.health {
                Health::Failing(trouble) => PodNow::Unwell(trouble.message.clone()),
                _ => PodNow::Starting,
            },
        },
        saved: match (snapshot, own) {
            (None, _) => Saved::Nothing,
            (Some(_), Some(own)) => saved(entry, own, answered),
            (Some(_), None) => Saved::Failed(
                "NameTaken".to_owned(),
                format!(
                    "there is a SandboxSnapshot {} of somebody else's",
                    snapshot_of(key)
                ),
            ),
        },
        on_its_own: entry.spec.pool_ref.is_empty(),
        from_saved: own.is_some_and(|snapshot| restore::starts_from(entry, snapshot)),
    }
}

/// Why nothing of this batch can be saved, if so.
fn cannot_save(world: &World, key: &Key) -> Option<(&'static str, String)> {
    if world.saver.is_none() {
        return Some(("RegistryNotConfigured", NOWHERE.to_owned()));
    }
    let name = snapshot_of(key).name;
    let words = || format!("the name of its snapshot would be {name}, which is too long");
    (name.len() > LONGEST_NAME).then(|| ("NameTooLong", words()))
}

fn saved(entry: &BatchEntry, snapshot: &SnapshotEntry, answered: Option<i64>) -> Saved {
    let pausing = entry.pause_phase() == Some(BatchPhase::Pausing);
    if snapshot.leaving {
        return Saved::Moving;
    }
    if pausing && snapshot.answers != answered {
        return Saved::Earlier;
    }
    match snapshot.status.phase {
        Some(SnapshotPhase::Succeed) => Saved::Whole,
        Some(SnapshotPhase::Failed) => {
            let conditions = snapshot.status.conditions.iter().flatten();
            let condition = conditions.last().cloned();
            let (reason, message) = condition
                .map(|condition| (condition.reason, condition.message))
                .unwrap_or_default();
            Saved::Failed(reason.unwrap_or_default(), message.unwrap_or_default())
        }
        _ => Saved::Moving,
    }
}

/// Has the task stopped; the batch is looked at again when its executor has answered.
fn stop_task(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let pod = world.index.pod_at(key, entry, 0);
    let place = pod.map(|pod| shards::place_of(world, entry, pod));
    if let Some(Place::At(uid, door)) = place {
        shards::send(world, key, 0, uid, door, Purpose::Stop);
    }
}

/// A batch that is back needs what it was saved as no more; its template names the images.
fn clear_up(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let back = entry.status.as_ref().and_then(|status| status.phase) == Some(BatchPhase::Succeed);
    let snapshot = world.index.snapshots.get(&snapshot_of(key));
    let whole = snapshot.is_some_and(|snapshot| {
        snapshot.owner.as_ref() == Some(&entry.uid)
            && snapshot.answers.is_some()
            && snapshot.status.phase == Some(SnapshotPhase::Succeed)
    });
    if back && whole {
        remove_snapshot(world, key);
    }
}

/// A paused batch has its pod taken back by the pool it came from, and then has none.
fn rest(world: &mut World, key: &Key) {
    recycle::take_back(world, key);
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    let paused = entry.pause_phase() == Some(BatchPhase::Paused);
    if paused && entry.slots.returning().next().is_none() && !entry.slots.given().is_empty() {
        entry.slots = Default::default();
    }
}

fn remove_snapshot(world: &mut World, key: &Key) {
    let snapshot = snapshot_of(key);
    let Some(found) = world
        .index
        .snapshots
        .get(&snapshot)
        .filter(|found| !found.leaving)
    else {
        return;
    };
    let uid = found.uid.clone();
    if let Some(entry) = world.index.batches.get_mut(key) {
        entry.writing = true;
    }
    world.tray.writes.push(Write::DeleteSnapshot {
        batch: key.clone(),
        snapshot,
        uid,
    });
}

/// Asks for a snapshot, which belongs to the batch and goes with it.
fn save(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    let answers = entry
        .status
        .as_ref()
        .and_then(|status| status.pause_observed_generation);
    let mut snapshot = SandboxSnapshot::new(
        &snapshot_of(key).name,
        SandboxSnapshotSpec {
            sandbox_name: key.name.to_string(),
        },
    );
    let meta = &mut snapshot.metadata;
    meta.namespace = Some(key.namespace.to_string());
    meta.owner_references =
        serde_json::from_value(json!([build::batch_reference(key, &entry.uid)])).ok();
    let answers = answers.unwrap_or_default().to_string();
    meta.annotations = Some([(names::PAUSE_GENERATION.to_owned(), answers)].into());
    entry.writing = true;
    world.making.begin(snapshot_of(key));
    world.tray.writes.push(Write::MakeSnapshot {
        batch: key.clone(),
        snapshot: Box::new(snapshot),
    });
}

/// The pod's own shape becomes the batch's template, so that it can be made again without its
/// pool.
fn leave_pool(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let pool = entry
        .pool(key)
        .and_then(|pool| world.index.pools.get(&pool));
    let template = pool.and_then(|pool| pool.spec.template.clone());
    let pod = entry.slots.at(0).map(|name| key.beside(name));
    let write = Write::LeavePool {
        key: key.clone(),
        version: entry.resource_version.clone(),
        pod,
        // Where the pod is gone already, its pool's template is what it was made from.
        template: template.or_else(|| entry.spec.template.clone()),
        patches: restore::without_first_patch(&entry.spec),
    };
    if let Some(entry) = world.index.batches.get_mut(key) {
        entry.writing = true;
    }
    world.tray.writes.push(write);
}

/// Gives back what came from a pool and deletes what is its own. A task that had not ended will
/// begin anew.
fn stop_pods(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    for shard in entry.shards.values_mut() {
        shard.call_off();
        if !shard.standing.is_over() {
            shard.standing = Standing::Pending;
        }
    }
    let held: Vec<Arc<str>> = entry.slots.held().cloned().collect();
    for pod in held {
        entry.slots.give_back(pod);
    }
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let own: Vec<Key> = supply::own_pods(world, key, entry)
        .map(|(pod, _)| pod.clone())
        .collect();
    for pod in own {
        recycle::delete(world, &pod);
    }
    recycle::take_back(world, key);
}

/// What was saved becomes the images of the template.
fn put_images(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    let Some(snapshot) = world.index.snapshots.get(&snapshot_of(key)) else {
        return;
    };
    let secret = world.saver.as_ref().and_then(|saver| saver.pull_secret());
    let patch = match restore::restored(entry, snapshot, secret) {
        Ok(patch) => patch,
        Err(why) => {
            tracing::warn!(batch = %key, why, "a template cannot be restored");
            return world.failed(super::super::world::Wake::Batch(key.clone()), now);
        }
    };
    if let Some(entry) = world.index.batches.get_mut(key) {
        entry.writing = true;
    }
    world.tray.writes.push(Write::BatchSpec {
        key: key.clone(),
        patch,
    });
}

fn failed(
    world: &mut World,
    key: &Key,
    kind: &'static str,
    reason: &'static str,
    why: String,
    phase: Option<BatchPhase>,
) -> Word {
    if let Some(entry) = world.index.batches.get(key) {
        let about = reference::<BatchSandbox>(key, &entry.uid);
        let note = format!("{reason}: {why}");
        world.events.warn(about, kind, "Pause", note);
    }
    Word {
        failure: Some((kind, reason, why)),
        ..Word::answer(phase, phase.is_some())
    }
}
