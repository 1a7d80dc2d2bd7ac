//! Sandbox: a pod of a pool, claimed, watched over, and given back.

mod claim;
mod facts;
mod recycle;
mod status;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use sandlot_api::arl::{Sandbox, SandboxPhase};
use sandlot_decide::sandbox::judge;
use serde_json::json;

pub(crate) use claim::{give_out, line_up};
pub(crate) use recycle::{give_back, wiped};

use crate::{
    dispatch::{Wake, Write},
    index::{Key, Writing},
    rounds::writes::status_patch,
    world::{World, reference},
};
use facts::facts;
use status::{Telling, status, worth_telling};

/// Looks at a sandbox and puts on the tray what is to be said or done.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.sandboxes.get(key) else {
        return;
    };
    if entry.writing.is_some() || entry.claiming {
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
        let pool = entry.pool.clone();
        world.index.leave_line(&pool, key);
        return write(world, key, Writing::End, |key| Write::EndSandbox {
            key,
            uid,
            patch,
        });
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
    write(world, key, Writing::Status, |key| Write::Sandbox {
        key,
        patch,
    });
}

fn write(world: &mut World, key: &Key, what: Writing, write: impl FnOnce(Key) -> Write) {
    if let Some(entry) = world.index.sandboxes.get_mut(key) {
        entry.writing = Some(what);
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
    write(world, key, Writing::Status, |key| Write::FreeSandbox {
        key,
        patch,
    });
}
