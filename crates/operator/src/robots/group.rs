//! The TaskGroup controller: replicas on robots.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Resource, ResourceExt};
use sandlot_api::robot::{
    AssignedRobot, GroupState, Task, TaskGroup, TaskGroupStatus, TaskState, names,
};
use sandlot_decide::robots::{
    placement::{Load, Wish},
    replicas::{Group, Plan, TaskFact, plan},
    rollout::Towards,
};
use serde_json::json;

use super::{
    build::{self, Template},
    fleet::Fleet,
    index::is_held,
    sights::{Kind, Object},
    world::World,
    writes::{What, hold, merge, release},
};
use crate::index::{Key, key::made};

/// In which order groups take their turns: by priority, then by age, then by name.
pub(crate) fn turn(world: &World, key: &Key) -> (i32, Timestamp, Key) {
    let group = world.index.groups.get(key);
    let priority = group.and_then(|group| group.spec.priority).unwrap_or(50);
    let age = group.map_or(Timestamp::MAX, |group| made(&group.metadata));
    (-priority, age, key.clone())
}

/// Looks at a group that may have changed.
pub(crate) fn look(world: &mut World, key: &Key, fleet: &mut Fleet, now: Timestamp) {
    let Some(group) = world.index.groups.get(key).cloned() else {
        // Its tasks go by garbage collection, each waiting for its robot.
        return;
    };
    if group.metadata.deletion_timestamp.is_some() {
        end(world, key, &group);
        return;
    }
    if !is_held(&group) {
        world.write(Kind::Group, key, What::Change(hold(&group)));
        return;
    }
    let latest = Template::of(&group.spec);
    let stable = stable(&group);
    let facts = facts(world, key, now);
    let plan = {
        let gone = gone(world, key);
        let empty = BTreeMap::new();
        let update = group.spec.update.clone().unwrap_or_default();
        let drivers = drivers(&latest);
        let revision = latest.revision();
        let stable_revision = stable.as_ref().map(Template::revision);
        let status = group.status.as_ref();
        let view = Group {
            kind: build::kind(&group.spec),
            count: group.spec.count,
            tasks: latest.tasks.len(),
            need: need(&group),
            wish: Wish {
                selector: group.spec.robot_selector.as_ref().unwrap_or(&empty),
                constraints: group.spec.constraints.as_deref().unwrap_or(&[]),
                drivers: &drivers,
            },
            cancelled: group.spec.cancel.unwrap_or(false),
            reschedule: group.spec.reschedule_policy.as_ref(),
            disconnect: group.spec.disconnect.as_ref(),
            update: &update,
            latest: &revision,
            stable: stable_revision.as_deref(),
            rollout: status.and_then(|status| status.rollout.as_ref()),
            gone: &gone,
        };
        plan(&view, &facts, fleet.of(&world.index, &key.namespace), now)
    };
    let for_room = plan.unplaced > 0 && need(&group) != Load::default();
    world.index.waits(key, for_room);
    carry_out(world, key, &group, &plan, &latest, stable.as_ref());
    pass_on_notes(world, key, &group);
    remember(world, key, &group, &plan, &latest, stable.as_ref());
    tell(world, key, &group, &plan, &facts, now);
    world.wake(plan.wake, (Kind::Group, key.clone()));
}

/// A group that goes: it stays until the last of its tasks has gone.
fn end(world: &mut World, key: &Key, group: &TaskGroup) {
    let tasks: Vec<(Key, Task)> = world
        .index
        .tasks_of(key)
        .map(|(key, task)| (key.clone(), task.clone()))
        .collect();
    for (key, task) in &tasks {
        delete(world, key, task);
    }
    if tasks.is_empty() && is_held(group) {
        world.write(Kind::Group, key, What::Change(release(group)));
    }
}

fn delete(world: &mut World, key: &Key, task: &Task) {
    let Some(uid) = task.uid().filter(|_| !world.index.is_leaving(task)) else {
        return;
    };
    if !world.must_wait(Kind::Task, key) {
        world.index.leaving.insert(uid.clone());
        world.write(Kind::Task, key, What::Delete { uid });
    }
}

/// The tasks of a group as decisions see them.
fn facts(world: &World, key: &Key, now: Timestamp) -> Vec<TaskFact> {
    let tasks = world.index.tasks_of(key);
    let facts = tasks.map(|(key, task)| {
        let status = task.status.as_ref();
        let time = |time: Option<&Time>| time.map(|time| time.0);
        let revision = task.labels().get(names::REVISION).cloned();
        TaskFact {
            name: key.name.to_string(),
            replica: task.spec.replica.unwrap_or(0),
            attempt: task.spec.attempt.unwrap_or(0),
            robot: task.spec.target_robot.clone(),
            revision: revision.unwrap_or_default(),
            state: status.and_then(|status| status.state).unwrap_or_default(),
            leaving: world.index.is_leaving(task),
            // One that is only just being made has all its time to become healthy.
            made: task.creation_timestamp().map_or(now, |made| made.0),
            started: time(status.and_then(|status| status.started_at.as_ref())),
            finished: time(status.and_then(|status| status.finished_at.as_ref())),
        }
    });
    facts.collect()
}

/// The template that is known to work, as it was written down when it did.
fn stable(group: &TaskGroup) -> Option<Template> {
    let text = group.annotations().get(names::STABLE_TEMPLATE)?;
    serde_json::from_str(text).ok()
}

fn gone(world: &World, key: &Key) -> BTreeMap<String, Timestamp> {
    let here = world.index.gone.iter();
    here.filter(|(robot, _)| robot.namespace == key.namespace)
        .map(|(robot, since)| (robot.name.to_string(), *since))
        .collect()
}

fn drivers(template: &Template) -> BTreeSet<&'static str> {
    let tasks = template.tasks.iter().chain(&template.init_tasks);
    tasks.map(|task| task.driver.name()).collect()
}

/// What a replica takes: what its tasks take together, or what the group says.
fn need(group: &TaskGroup) -> Load {
    let tasks = Load::of(&group.spec.tasks);
    let Some(all) = &group.spec.resources else {
        return tasks;
    };
    Load {
        cpu: all
            .cpu
            .as_ref()
            .and_then(|cpu| cpu.millis())
            .unwrap_or(tasks.cpu),
        memory: all
            .memory
            .as_ref()
            .and_then(|memory| memory.units())
            .unwrap_or(tasks.memory),
    }
}

fn carry_out(
    world: &mut World,
    key: &Key,
    group: &TaskGroup,
    plan: &Plan,
    latest: &Template,
    stable: Option<&Template>,
) {
    for name in &plan.delete {
        let task = key.beside(name);
        if let Some(found) = world.index.tasks.get(&task).cloned() {
            delete(world, &task, &found);
        }
    }
    for name in &plan.cancel {
        let task = key.beside(name);
        let asked = world.index.tasks.get(&task).is_none_or(|found| {
            found.annotations().contains_key(names::STOP) || found.uid().is_none()
        });
        if !asked {
            let patch = json!({ "metadata": { "annotations": { names::STOP: "true" } } });
            world.write(Kind::Task, &task, What::Change(patch));
        }
    }
    for name in &plan.lose {
        lose(world, &key.beside(name));
    }
    for start in &plan.start {
        let template = match (start.towards, stable) {
            (Towards::Stable, Some(stable)) => stable,
            _ => latest,
        };
        for (key, task) in build::tasks(key, group, template, start) {
            if world.index.tasks.contains_key(&key) || world.must_wait(Kind::Task, &key) {
                // What the plan has given it counts for nothing.
                world.index.recount.insert(key.beside(&start.robot));
                continue;
            }
            world.index.expect(task.clone());
            let object = Object::Task(Box::new(task));
            world.write(Kind::Task, &key, What::Create(Box::new(object)));
        }
    }
}

/// What a group notes is no part of what its replicas are made from: an edit of it reaches tasks
/// that run where they are.
fn pass_on_notes(world: &mut World, key: &Key, group: &TaskGroup) {
    let wanted = group.spec.meta.clone().unwrap_or_default();
    let mut patches = Vec::new();
    for (key, task) in world.index.tasks_of(key) {
        let known = task.spec.meta.clone().unwrap_or_default();
        let state = task.status.as_ref().and_then(|status| status.state);
        let over = state.unwrap_or_default().is_terminal() || world.index.is_leaving(task);
        if known != wanted && !over && task.uid().is_some() {
            let patch = json!({ "spec": { "meta": merge(&known, &wanted) } });
            patches.push((key.clone(), patch));
        }
    }
    for (key, patch) in patches {
        world.write(Kind::Task, &key, What::Change(patch));
    }
}

/// Writes down that nobody knows of a task any more, unless its robot has just said something.
fn lose(world: &mut World, key: &Key) {
    let Some(task) = world.index.tasks.get(key) else {
        return;
    };
    let robot = task.spec.target_robot.as_deref().unwrap_or("none");
    let patch = json!({
        "metadata": { "resourceVersion": task.metadata.resource_version },
        "status": {
            "state": TaskState::Lost,
            "reason": "RobotGone",
            "message": format!("robot {robot} has not been heard of for longer than the group allows"),
        },
    });
    world.write(Kind::Task, key, What::Status(patch));
}

/// Remembers what works, so that there is something to go back to.
fn remember(
    world: &mut World,
    key: &Key,
    group: &TaskGroup,
    plan: &Plan,
    latest: &Template,
    stable: Option<&Template>,
) {
    use sandlot_api::robot::RolloutState::Completed;
    let healthy = plan.rollout.as_ref().is_some_and(|rollout| {
        rollout.state == Completed && rollout.failed == 0 && rollout.total > 0
    });
    if !healthy
        || stable == Some(latest)
        || build::kind(&group.spec) == sandlot_api::robot::JobType::Batch
    {
        return;
    }
    let Ok(text) = serde_json::to_string(latest) else {
        return;
    };
    let patch = json!({
        "metadata": {
            "resourceVersion": group.metadata.resource_version,
            "annotations": { names::STABLE_TEMPLATE: text },
        },
    });
    world.write(Kind::Group, key, What::Change(patch));
}

/// Writes down where the group stands, if that is news.
fn tell(
    world: &mut World,
    key: &Key,
    group: &TaskGroup,
    plan: &Plan,
    facts: &[TaskFact],
    now: Timestamp,
) {
    if world.must_wait(Kind::Group, key) {
        return;
    }
    let before = group.status.clone().unwrap_or_default();
    let cancelled = group.spec.cancel.unwrap_or(false);
    let per_replica = i32::try_from(group.spec.tasks.len()).unwrap_or(i32::MAX);
    let tally = plan.tally;
    let total = match cancelled {
        // What had no robot yet gets none any more.
        true => tally.total(),
        false => plan.wanted.saturating_mul(per_replica).max(tally.total()),
    };
    let settled = plan.settled && (cancelled || tally.total() >= total) && total > 0;
    let state = tally.group(settled, cancelled);
    let over = matches!(
        state,
        GroupState::Completed | GroupState::Failed | GroupState::Cancelled
    );
    let status = TaskGroupStatus {
        state: Some(state),
        status_description: describe(group, plan, state),
        observed_generation: group.metadata.generation,
        total_tasks: total,
        pending_tasks: total - (tally.total() - tally.queued),
        running_tasks: tally.starting + tally.running,
        succeeded_tasks: tally.completed,
        failed_tasks: tally.failed + tally.cancelled,
        lost_tasks: tally.lost,
        started_at: facts
            .iter()
            .filter_map(|fact| fact.started)
            .min()
            .map(Time)
            .or(before.started_at.clone()),
        completed_at: over.then(|| {
            let ends = facts.iter().filter_map(|fact| fact.finished);
            before
                .completed_at
                .clone()
                .unwrap_or(Time(ends.max().unwrap_or(now)))
        }),
        assigned_robots: Some(assigned(facts, plan)),
        rollout: plan.rollout.clone(),
        conditions: Some(conditions(&before, state, now)),
    };
    if group.status.as_ref() == Some(&status) {
        return;
    }
    if before.state != Some(state) && over {
        let about = group.object_ref(&());
        let note = format!("{} of {total} tasks completed", tally.completed);
        match state {
            GroupState::Failed => world.events.warn(about, "Failed", "Run", note),
            _ => world.events.tell(about, "Ended", "Run", note),
        }
    }
    let patch = super::writes::status_patch(group, &before, &status);
    world.write(Kind::Group, key, What::Status(patch));
}

fn assigned(facts: &[TaskFact], plan: &Plan) -> Vec<AssignedRobot> {
    let mut robots: BTreeMap<i32, (i64, &str)> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| !fact.leaving) {
        let Some(robot) = fact.robot.as_deref() else {
            continue;
        };
        let entry = robots.entry(fact.replica).or_insert((fact.attempt, robot));
        if entry.0 < fact.attempt {
            *entry = (fact.attempt, robot);
        }
    }
    for start in &plan.start {
        robots.insert(start.replica, (start.attempt, &start.robot));
    }
    let assigned = robots
        .into_iter()
        .map(|(replica_index, (_, robot))| AssignedRobot {
            replica_index,
            robot_name: robot.to_owned(),
        });
    assigned.collect()
}

fn describe(group: &TaskGroup, plan: &Plan, state: GroupState) -> Option<String> {
    if plan.unplaced > 0 {
        let wanted = plan.wanted;
        return Some(format!(
            "{} of {wanted} replicas wait for a robot: {} fit, and none of those is online, open and has room",
            plan.unplaced, plan.fitting
        ));
    }
    match state {
        GroupState::Pending if plan.wanted == 0 => {
            Some(format!("no robot fits {}", selector(group)))
        }
        _ => plan
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.message.clone()),
    }
}

fn selector(group: &TaskGroup) -> String {
    let labels = group.spec.robot_selector.iter().flatten();
    let labels: Vec<String> = labels
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    match labels.is_empty() {
        true => "the constraints".to_owned(),
        false => format!("the selector {}", labels.join(",")),
    }
}

fn conditions(before: &TaskGroupStatus, state: GroupState, now: Timestamp) -> Vec<Condition> {
    let of = |kind: &str, holds: bool| {
        let known = before.conditions.iter().flatten();
        super::writes::condition(known, kind, holds, state.name(), now)
    };
    vec![
        of("Complete", state == GroupState::Completed),
        of(
            "Failed",
            matches!(state, GroupState::Failed | GroupState::Cancelled),
        ),
    ]
}
