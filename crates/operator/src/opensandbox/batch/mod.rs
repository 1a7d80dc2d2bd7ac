//! BatchSandbox: its pods, its tasks, its pauses, what is said about it, and its end.

mod assign;
mod end;
mod pause;
mod shards;
mod supply;
mod tell;
mod word;

use jiff::Timestamp;
use sandlot_api::opensandbox::{BatchSandbox, names};
use sandlot_decide::expiry::Verdict;

pub(crate) use shards::news;
pub(crate) use supply::{give_out, line_up};

use super::{
    world::{Wake, World},
    writes::Write,
};
use crate::{index::Key, world::reference};

/// Looks at a batch and puts on the tray what is to be said or done.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.batches.get(key) else {
        return;
    };
    if entry.leaving {
        return end::look(world, key, now);
    }
    match entry.expiry(now) {
        Verdict::Remove => return expire(world, key),
        Verdict::LookAt(at) => world.wakes.at(at, Wake::Batch(key.clone())),
        Verdict::Keep => {}
    }
    let word = match entry.illegible {
        Some(_) => word::Word::as_written(entry),
        None => pause::look(world, key, now),
    };
    let legible = world
        .index
        .batches
        .get(key)
        .is_some_and(|entry| entry.illegible.is_none());
    if legible && !word.asleep {
        supply::shrink(world, key, now);
        supply::make(world, key, now);
        shards::look(world, key);
    }
    tell::look(world, key, &word, now);
}

fn expire(world: &mut World, key: &Key) {
    let Some(entry) = world.index.batches.get_mut(key) else {
        return;
    };
    if entry.writing {
        return;
    }
    entry.writing = true;
    let uid = entry.uid.clone();
    let about = reference::<BatchSandbox>(key, &uid);
    let note = "its expireTime is over".to_owned();
    world.events.tell(about, "Expired", "Delete", note);
    world.tray.writes.push(Write::DeleteBatch {
        key: key.clone(),
        uid,
    });
}

/// Whether a batch's tasks may begin: the finalizer that sees them stopped is on it.
fn may_run(entry: &super::index::BatchEntry) -> bool {
    entry.is_held_by(names::TASK_CLEANUP)
}
