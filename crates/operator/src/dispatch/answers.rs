//! What came of the operator's own writes goes into the index, before the watch tells of it.

use jiff::Timestamp;
use kube::Error;
use sandlot_api::arl::WarmPool;
use sandlot_decide::pool::TroubleKind;

use super::{Claimed, Wake, Written};
use crate::{
    index::Key,
    rounds::writes::{is_conflict, refusal, say},
    task,
    world::{World, reference},
};

/// Takes in what came of a write.
pub(super) fn take(world: &mut World, written: Written, now: Timestamp) {
    match written {
        Written::PodCreated { pool, name, result } => {
            pod_created(world, &pool, &name, result, now);
        }
        Written::PodDeleted { pod, result } => {
            // The watch takes the pod away; a pod that could not be deleted is looked at again.
            if let Err(error) = result {
                let Some(entry) = world.index.pods.get(&pod) else {
                    return;
                };
                let pool = entry.pool.clone();
                say(&pod, &error, "the deletion of a pod");
                world.index.settle_pod(&pod);
                world.failed(Wake::Pod(pod), now);
                world.failed(Wake::Pool(pool), now);
            }
        }
        Written::PodReturned { pod, result } => {
            world.index.settle_pod(&pod);
            match result {
                Ok(returned) => {
                    world.wakes.succeeded(&Wake::Pod(pod.clone()));
                    if world
                        .index
                        .knows_pod(&pod, returned.metadata.uid.as_deref())
                    {
                        world.index.see_pod(&returned, now);
                    }
                }
                Err(error) => {
                    say(&pod, &error, "the return of a wiped pod");
                    world.failed(Wake::Pod(pod), now);
                }
            }
        }
        Written::Claimed(claimed) => claim(world, *claimed, now),
        Written::Sandbox { key, result } => {
            let Some(entry) = world.index.sandboxes.get_mut(&key) else {
                return;
            };
            match result {
                Ok(Some(sandbox)) => {
                    entry.writing = None;
                    // What was seen meanwhile may be newer than this, and waits to be looked at.
                    world.index.marks.sandbox(&key);
                    world.wakes.succeeded(&Wake::Sandbox(key));
                    world.index.see_sandbox(&sandbox, now);
                }
                // Deleted: the watch will say so.
                Ok(None) => {}
                Err(error) => {
                    entry.writing = None;
                    say(&key, &error, "a sandbox's status");
                    world.failed(Wake::Sandbox(key), now);
                }
            }
        }
        Written::Pool { key, result } => {
            let Some(entry) = world.index.pools.get_mut(&key) else {
                return;
            };
            entry.writing = false;
            world.index.marks.pool(&key);
            match result {
                Ok(pool) => {
                    world.wakes.succeeded(&Wake::Pool(key));
                    world.index.see_pool(&pool);
                }
                Err(error) => {
                    say(&key, &error, "a pool's status");
                    world.failed(Wake::Pool(key), now);
                }
            }
        }
        Written::Task { key, result } => task_written(world, key, result),
    }
}

fn pod_created(
    world: &mut World,
    key: &Key,
    name: &str,
    result: Result<(), Error>,
    now: Timestamp,
) {
    // A pod that was made stays on the list of those being made until the watch tells of it.
    let Err(error) = result else { return };
    let Some(entry) = world.index.pools.get_mut(key) else {
        return;
    };
    entry.stock.answered(name);
    world.index.marks.pool(key);
    // Where another pod has the name that was thought up, the next one will have another.
    let Some(message) = refusal(&error) else {
        return;
    };
    tracing::warn!(pool = %key, %error, "a pod could not be made");
    if entry.stock.refused(&message, now) {
        let about = reference::<WarmPool>(key, &entry.uid);
        let events = &world.events;
        let reason = TroubleKind::of_refusal(&message).reason();
        events.warn(about, reason, "CreatePod", message);
    }
}

fn claim(world: &mut World, claimed: Claimed, now: Timestamp) {
    let Claimed {
        pod,
        pod_revision,
        sandbox,
        given,
        told,
    } = claimed;
    if let Some(entry) = world.index.sandboxes.get_mut(&sandbox) {
        entry.claiming = false;
        world.index.marks.sandbox(&sandbox);
    }
    // The sandbox first: of two pods that name it, it keeps the one that its status names.
    match told {
        Some(Ok(told)) => {
            if let Some(entry) = world.index.sandboxes.get(&sandbox) {
                world.metrics.claimed(entry.seen, now);
            }
            world.wakes.succeeded(&Wake::Sandbox(sandbox.clone()));
            if world
                .index
                .knows_sandbox(&sandbox, told.metadata.uid.as_deref())
            {
                world.index.see_sandbox(&told, now);
            }
        }
        // It has changed since, perhaps by what told it to wait: it is told anew, as it is now.
        Some(Err(error)) if is_conflict(&error) => {}
        Some(Err(error)) => {
            say(&sandbox, &error, "a sandbox's status");
            world.failed(Wake::Sandbox(sandbox.clone()), now);
        }
        None => {}
    }
    match given {
        Ok(given) => {
            world.wakes.succeeded(&Wake::Pod(pod.clone()));
            if world.index.knows_pod(&pod, given.metadata.uid.as_deref()) {
                world.index.see_pod(&given, now);
            }
        }
        Err(error) => {
            say(&pod, &error, "a claim");
            world.index.unclaim(&pod, pod_revision);
            world.failed(Wake::Pod(pod), now);
            world.failed(Wake::Sandbox(sandbox), now);
        }
    }
}

fn task_written(
    world: &mut World,
    key: Key,
    result: Result<Option<Box<sandlot_api::arl::Task>>, Error>,
) {
    let now = Timestamp::now();
    let Some(entry) = world.index.tasks.get_mut(&key) else {
        return;
    };
    match result {
        Ok(Some(written)) => {
            entry.writing = false;
            world.index.marks.task(&key);
            world.wakes.succeeded(&Wake::Task(key.clone()));
            world.index.see_task(&written);
            if world
                .index
                .tasks
                .get(&key)
                .is_some_and(|task| task.is_finished())
            {
                world.runs.remove(&key);
            }
        }
        // Deleted: the watch will say so.
        Ok(None) => {}
        Err(error) => {
            entry.writing = false;
            if is_too_large(&error)
                && let Some(report) = world.runs.get_mut(&key).and_then(|run| run.report.as_mut())
            {
                tracing::warn!(task = %key, "the output is too large for a status and is cut short");
                task::shrink(report);
            }
            say(&key, &error, "a task's status");
            world.failed(Wake::Task(key), now);
        }
    }
}

fn is_too_large(error: &Error) -> bool {
    match error {
        Error::Api(status) => {
            matches!(status.code, 413 | 422)
                || status.message.contains("too large")
                || status.message.contains("larger than")
        }
        _ => false,
    }
}
