//! The Task controller: a robot for tasks that name none, and the end of those that go.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use sandlot_api::robot::{Task, TaskState};
use sandlot_decide::{
    expiry::later,
    robots::placement::{Load, Wish, best},
};
use serde_json::json;

use super::{
    fleet::Fleet,
    index::is_held,
    sights::Kind,
    world::World,
    writes::{What, hold, release},
};
use crate::index::Key;

/// How long a robot may take to say that it has stopped a task, beyond the task's own time to
/// end; after that the task goes without its word.
const FORCE_AFTER: Duration = Duration::from_secs(30);
/// How long a task has to end by itself when it does not say.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at a task that may have changed.
pub(crate) fn look(world: &mut World, key: &Key, fleet: &mut Fleet, now: Timestamp) {
    let Some(task) = world.index.tasks.get(key).cloned() else {
        return;
    };
    if task.metadata.uid.is_none() {
        return;
    }
    let state = task
        .status
        .as_ref()
        .and_then(|status| status.state)
        .unwrap_or_default();
    if let Some(since) = &task.metadata.deletion_timestamp {
        end(world, key, &task, state, since.0, now);
        return;
    }
    if state.is_terminal() {
        return;
    }
    if !is_held(&task) {
        world.write(Kind::Task, key, What::Change(hold(&task)));
        return;
    }
    if task.spec.target_robot.is_none() {
        place(world, key, &task, fleet);
    }
}

/// A task that goes: it stays until nothing of it runs, or its robot has taken too long to say so.
fn end(
    world: &mut World,
    key: &Key,
    task: &Task,
    state: TaskState,
    since: Timestamp,
    now: Timestamp,
) {
    if !is_held(task) {
        return;
    }
    let grace = task
        .spec
        .kill_timeout
        .map_or(KILL_TIMEOUT, |timeout| timeout.0);
    let due = later(since, grace.saturating_add(FORCE_AFTER));
    // One that no robot was told of runs nowhere.
    let nowhere = task.spec.target_robot.is_none();
    if nowhere || state.is_terminal() || due <= now {
        world.write(Kind::Task, key, What::Change(release(task)));
    } else {
        world.wake(Some(due), (Kind::Task, key.clone()));
    }
}

/// Finds a robot for a task that was made without one.
fn place(world: &mut World, key: &Key, task: &Task, fleet: &mut Fleet) {
    let need = Load::of(std::slice::from_ref(&task.spec.definition()));
    let mut drivers = BTreeSet::from([task.spec.driver.name()]);
    drivers.extend(
        task.spec
            .init_tasks
            .iter()
            .flatten()
            .map(|task| task.driver.name()),
    );
    let wish = Wish {
        selector: &BTreeMap::new(),
        constraints: task.spec.constraints.as_deref().unwrap_or(&[]),
        drivers: &drivers,
    };
    let robots = fleet.of(&world.index, &key.namespace);
    let Some(found) = best(robots, &wish, need) else {
        let fitting = robots.iter().filter(|robot| wish.fits(robot)).count();
        let message = format!(
            "waits for a robot: {fitting} fit, and none of those is online, open and has room"
        );
        let known = task
            .status
            .as_ref()
            .and_then(|status| status.message.as_ref());
        if known != Some(&message) {
            let patch = json!({ "status": { "state": TaskState::Pending, "message": message } });
            world.write(Kind::Task, key, What::Status(patch));
        }
        return;
    };
    if world.must_wait(Kind::Task, key) {
        return;
    }
    robots[found].take(need);
    // It counts as given until the next round, which sees whether it was.
    let robot = key.beside(&robots[found].name);
    world.index.recount.insert(robot);
    let patch = json!({
        "metadata": { "resourceVersion": task.metadata.resource_version },
        "spec": { "targetRobot": robots[found].name },
    });
    world.write(Kind::Task, key, What::Change(patch));
}
