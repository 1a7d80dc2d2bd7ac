//! The Job controller: a TaskGroup for each group, and what they come to together.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};
use sandlot_api::robot::{GroupState, Job, JobState, JobStatus, TaskGroup, TaskState};
use sandlot_decide::robots::tally::Tally;
use serde_json::json;

use super::{
    build,
    index::is_held,
    sights::{Kind, Object},
    world::World,
    writes::{What, condition, hold, merge, release, status_patch},
};
use crate::index::Key;

/// How many names of tasks a status lists.
const LISTED: usize = 100;

/// Looks at a job that may have changed.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(job) = world.index.jobs.get(key).cloned() else {
        return;
    };
    if job.metadata.deletion_timestamp.is_some() {
        end(world, key, &job);
        return;
    }
    if !is_held(&job) {
        world.write(Kind::Job, key, What::Change(hold(&job)));
        return;
    }
    shape(world, key, &job);
    tell(world, key, &job, now);
}

/// A job that goes: it stays until the last of its groups has gone.
fn end(world: &mut World, key: &Key, job: &Job) {
    let groups = groups(world, key);
    for (key, group) in &groups {
        delete(world, key, group);
    }
    if groups.is_empty() && is_held(job) {
        world.write(Kind::Job, key, What::Change(release(job)));
    }
}

fn groups(world: &World, key: &Key) -> Vec<(Key, TaskGroup)> {
    let groups = world.index.groups_of(key);
    groups
        .map(|(key, group)| (key.clone(), group.clone()))
        .collect()
}

fn delete(world: &mut World, key: &Key, group: &TaskGroup) {
    if let Some(uid) = group.uid().filter(|_| !world.index.is_leaving(group))
        && !world.must_wait(Kind::Group, key)
    {
        world.index.leaving.insert(uid.clone());
        world.write(Kind::Group, key, What::Delete { uid });
    }
}

/// Makes the groups be what the job says.
fn shape(world: &mut World, key: &Key, job: &Job) {
    let mut wanted = BTreeSet::new();
    for template in &job.spec.task_groups {
        let group = key.beside(&build::group_name(&key.name, &template.name));
        match world.index.groups.get(&group).cloned() {
            None if !world.must_wait(Kind::Group, &group) => {
                let made = Object::Group(Box::new(build::group(&group, job, template)));
                world.write(Kind::Group, &group, What::Create(Box::new(made)));
            }
            Some(found) if !is_of(&found, job) => {
                let note = format!("TaskGroup {} is there and not of this job", group.name);
                world
                    .events
                    .warn(job.object_ref(&()), "NameTaken", "Create", note);
            }
            Some(found) => {
                let spec = build::group_spec(job, template);
                if found.spec != spec && found.metadata.deletion_timestamp.is_none() {
                    let version = &found.metadata.resource_version;
                    let after = merge(&found.spec, &spec);
                    let patch =
                        json!({ "metadata": { "resourceVersion": version }, "spec": after });
                    world.write(Kind::Group, &group, What::Change(patch));
                }
            }
            None => {}
        }
        wanted.insert(group);
    }
    for (key, group) in groups(world, key) {
        if !wanted.contains(&key) && is_of(&group, job) {
            delete(world, &key, &group);
        }
    }
}

fn is_of(group: &TaskGroup, job: &Job) -> bool {
    let owners = group.metadata.owner_references.iter().flatten();
    owners
        .map(|owner| Some(&owner.uid))
        .any(|uid| uid == job.metadata.uid.as_ref())
}

/// Writes down where the job stands, if that is news.
fn tell(world: &mut World, key: &Key, job: &Job, now: Timestamp) {
    if world.must_wait(Kind::Job, key) {
        return;
    }
    let before = job.status.clone().unwrap_or_default();
    let status = observe(world, key, job, &before, now);
    if job.status.as_ref() == Some(&status) {
        return;
    }
    if before.state != status.state {
        world.metrics.robot_job(status.state.unwrap_or_default());
    }
    let patch = status_patch(job, &before, &status);
    world.write(Kind::Job, key, What::Status(patch));
}

fn observe(world: &World, key: &Key, job: &Job, before: &JobStatus, now: Timestamp) -> JobStatus {
    let groups = groups(world, key);
    let mut all = Tally::default();
    let mut summary = BTreeMap::new();
    let (mut total, mut pending, mut running) = (0, 0, 0);
    let mut states = Vec::new();
    for (_, group) in &groups {
        let status = group.status.clone().unwrap_or_default();
        let tally = Tally {
            queued: status.pending_tasks,
            running: status.running_tasks,
            completed: status.succeeded_tasks,
            failed: status.failed_tasks,
            lost: status.lost_tasks,
            ..Tally::default()
        };
        all.add(&tally);
        total += status.total_tasks;
        pending += status.pending_tasks;
        running += status.running_tasks;
        summary.insert(group.spec.group_name.clone(), counted(world, key, group));
        // A status of an older edit says nothing of how this one ends.
        let current = status.observed_generation == group.metadata.generation;
        states.push(status.state.filter(|_| current).unwrap_or_default());
    }
    let complete = groups.len() == job.spec.task_groups.len();
    let ended = |state: &GroupState| {
        matches!(
            state,
            GroupState::Completed | GroupState::Failed | GroupState::Cancelled
        )
    };
    let settled = complete && !states.is_empty() && states.iter().all(ended);
    let cancelled = job.spec.cancel.unwrap_or(false);
    let state = all.job(settled, cancelled && (settled || groups.is_empty()));
    let over = !matches!(state, JobState::Pending | JobState::Running);
    let times =
        |read: fn(&sandlot_api::robot::TaskGroupStatus) -> Option<&Time>| -> Vec<Timestamp> {
            let statuses = groups.iter().filter_map(|(_, group)| group.status.as_ref());
            statuses.filter_map(read).map(|time| time.0).collect()
        };
    let reasons = groups.iter().filter_map(|(_, group)| {
        let why = group.status.as_ref()?.status_description.as_ref()?;
        Some(format!("{}: {why}", group.spec.group_name))
    });
    let reasons: Vec<String> = reasons.collect();
    let conditions = |kind: &str, holds: bool| {
        condition(
            before.conditions.iter().flatten(),
            kind,
            holds,
            state.name(),
            now,
        )
    };
    JobStatus {
        state: Some(state),
        status_description: (!reasons.is_empty()).then(|| reasons.join("; ")),
        create_index: before.create_index.or(job.metadata.generation),
        modify_index: job.metadata.generation,
        observed_generation: job.metadata.generation,
        total_tasks: total,
        succeeded_tasks: all.completed,
        failed_tasks: all.failed,
        running_tasks: running,
        pending_tasks: pending,
        task_groups: Some(groups.iter().map(|(key, _)| key.name.to_string()).collect()),
        tasks: Some(tasks(world, &groups)),
        task_group_summary: Some(summary),
        started_at: times(|status| status.started_at.as_ref())
            .into_iter()
            .min()
            .map(Time),
        completed_at: over.then(|| {
            let last = times(|status| status.completed_at.as_ref())
                .into_iter()
                .max();
            before
                .completed_at
                .clone()
                .unwrap_or(Time(last.unwrap_or(now)))
        }),
        conditions: Some(vec![
            conditions("Complete", state == JobState::Completed),
            conditions(
                "Failed",
                matches!(state, JobState::Failed | JobState::Cancelled),
            ),
        ]),
    }
}

/// Where the tasks of a group stand, told apart as far as the job's summary does.
fn counted(world: &World, key: &Key, group: &TaskGroup) -> sandlot_api::robot::GroupSummary {
    let status = group.status.clone().unwrap_or_default();
    let name = key.beside(&group.name_any());
    let starting = world.index.tasks_of(&name).filter(|(_, task)| {
        let state = task
            .status
            .as_ref()
            .and_then(|status| status.state)
            .unwrap_or_default();
        (TaskState::Dispatching..TaskState::Running).contains(&state)
    });
    let starting = i32::try_from(starting.count())
        .unwrap_or(i32::MAX)
        .min(status.running_tasks);
    Tally {
        queued: status.pending_tasks,
        starting,
        running: status.running_tasks - starting,
        completed: status.succeeded_tasks,
        failed: status.failed_tasks,
        lost: status.lost_tasks,
        cancelled: 0,
    }
    .summary()
}

fn tasks(world: &World, groups: &[(Key, TaskGroup)]) -> Vec<String> {
    let all = groups.iter().flat_map(|(key, _)| world.index.tasks_of(key));
    all.map(|(key, _)| key.name.to_string())
        .take(LISTED)
        .collect()
}
