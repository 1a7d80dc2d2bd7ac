//! Task: steps in a sandbox, in the order in which tasks were made.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::arl::{Task, TaskState, TaskStatus};
use sandlot_decide::{
    expiry::later,
    task::{SandboxView, Start, start},
};
use serde_json::Value;

use crate::{
    agents::{Door, Job, Report, Stop, never_ran},
    dispatch::{Wake, Write},
    expiry,
    index::{Key, TaskEntry},
    rounds::writes::status_patch,
    world::{Run, World, condition, reference},
};

/// A task shorter than this goes from nothing to its end in one write: nobody sees so short a
/// moment, and a busy machine has better things to write.
const RUNNING_AFTER: Duration = Duration::from_millis(200);
/// A task that waits shorter than this is not told to be waiting.
const PENDING_AFTER: Duration = Duration::from_millis(100);
/// Nor one whose sandbox is busy with earlier tasks and gets through them: each such word would be
/// a write that keeps the others waiting, and more of them would wait long enough to be told so.
/// It does not name the task before it, which changes.
const QUEUED_AFTER: Duration = Duration::from_secs(5);
const IN_THE_QUEUE: &str = "earlier tasks of the same sandbox come first";
/// Output kept in a status that the API found too large.
const SMALL_OUTPUT: usize = 4 * 1024;

/// Looks at a task and puts on the tray what is to be done.
pub(crate) fn look(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.tasks.get(key) else {
        return;
    };
    if entry.is_finished() {
        return expiry::look(world, key, now);
    }
    let view = sandbox_view(world, entry);
    if let Some(run) = world.runs.get(key) {
        if run.uid != entry.uid {
            return stop(world, key);
        }
        if run.report.is_some() {
            return tell_end(world, key, now);
        }
        return watch_over(world, key, view, now);
    }
    if entry.writing || entry.leaving {
        return;
    }
    let first = world.index.queue(&entry.sandbox).next();
    let queued = first.is_some_and(|first| first != key);
    let started = entry.state == Some(TaskState::Running);
    match start(&entry.sandbox_name, view, queued, started) {
        Start::Now => begin(world, key, now),
        Start::Never(why) => give_up(world, key, &why, now),
        Start::Wait(why) => tell_waiting(world, key, &why, PENDING_AFTER, now),
        Start::Queue => tell_waiting(world, key, IN_THE_QUEUE, QUEUED_AFTER, now),
    }
}

fn sandbox_view(world: &World, task: &TaskEntry) -> SandboxView {
    let Some(sandbox) = world.index.sandboxes.get(&task.sandbox) else {
        return SandboxView::Missing;
    };
    if sandbox.leaving {
        return SandboxView::Leaving;
    }
    match (sandbox.status.phase, world.index.pod_of(&sandbox.uid)) {
        (Some(phase), _) if sandbox.status.pod_name.is_none() => SandboxView::Standing(phase),
        // The pod knows better than a status that is yet to be written.
        (Some(phase), Some(pod)) if pod.is_ready() && pod.ended.is_none() => {
            SandboxView::Standing(phase)
        }
        (
            Some(
                phase @ (sandlot_api::arl::SandboxPhase::Failed
                | sandlot_api::arl::SandboxPhase::Released),
            ),
            _,
        ) => SandboxView::Standing(phase),
        _ => SandboxView::Standing(sandlot_api::arl::SandboxPhase::Pending),
    }
}

/// Starts a task, or attaches to it if it was running before this operator began.
fn begin(world: &mut World, key: &Key, now: Timestamp) {
    let Some(entry) = world.index.tasks.get(key) else {
        return;
    };
    let sandbox = world.index.sandboxes.get(&entry.sandbox);
    let pod = sandbox.and_then(|sandbox| world.index.pod_of(&sandbox.uid));
    let (Some(spec), Some(pod)) = (entry.spec.clone(), pod) else {
        return;
    };
    let Some(door) = Door::of(pod) else { return };
    if let Some(trace) = &spec.trace_id {
        tracing::info!(task = %key, trace, pod = %pod.key, "a task begins, or is attached to");
    }
    let stop = Stop::default();
    let started = entry.started.unwrap_or(now);
    let job = Job {
        key: key.clone(),
        uid: entry.uid.clone(),
        spec,
        pod: pod.key.name.clone(),
        door,
        work_dir: world.settings.agent.work_dir.clone(),
        started,
        output_limit: world.settings.output_limit,
    };
    let run = Run {
        uid: entry.uid.clone(),
        pod: pod.uid.clone(),
        since: now,
        stop: stop.clone(),
        report: None,
    };
    world
        .wakes
        .at(later(now, RUNNING_AFTER), Wake::Task(key.clone()));
    let sandbox = entry.sandbox.clone();
    world.runs.insert(key.clone(), run);
    world.index.marks.sandbox(&sandbox);
    world.tray.starts.push((job, stop));
}

/// A task is running: say so once it has run for a moment, and end it if its sandbox is lost.
fn watch_over(world: &mut World, key: &Key, view: SandboxView, now: Timestamp) {
    let (Some(entry), Some(run)) = (world.index.tasks.get(key), world.runs.get(key)) else {
        return;
    };
    let pod_is_there = world
        .index
        .sandboxes
        .get(&entry.sandbox)
        .and_then(|sandbox| world.index.pod_of(&sandbox.uid))
        .is_some_and(|pod| pod.uid == run.pod && pod.ended.is_none() && !pod.facts.leaving);
    if !pod_is_there {
        let why = match start(&entry.sandbox_name, view, false, true) {
            Start::Never(why) => why,
            _ => format!(
                "sandbox {:?} lost its pod while the task was running",
                entry.sandbox_name
            ),
        };
        let started = Some(run.since);
        if let Some(run) = world.runs.get_mut(key) {
            run.stop.kill.cancel();
            run.report = Some(never_ran(&why, started, now));
        }
        return tell_end(world, key, now);
    }
    if entry.state == Some(TaskState::Running) || entry.writing {
        return;
    }
    let due = later(run.since, RUNNING_AFTER);
    if due > now {
        return world.wakes.at(due, Wake::Task(key.clone()));
    }
    let started = Time(run.since);
    let status = TaskStatus {
        state: Some(TaskState::Running),
        start_time: Some(started.clone()),
        started_at: Some(started),
        message: Some("running".to_owned()),
        observed_generation: entry.generation,
        ..TaskStatus::default()
    };
    let patch = status_patch(&entry.resource_version, status);
    write(world, key, patch);
}

/// A task has ended: write it down. The next task of the sandbox starts once that is done.
fn tell_end(world: &mut World, key: &Key, now: Timestamp) {
    let (Some(entry), Some(run)) = (world.index.tasks.get(key), world.runs.get(key)) else {
        return;
    };
    let Some(report) = run.report.as_ref().filter(|_| !entry.writing) else {
        return;
    };
    let patch = end_patch(world, entry, report, now);
    write(world, key, patch);
}

fn end_patch(world: &World, entry: &TaskEntry, report: &Report, now: Timestamp) -> Value {
    let mut status = report.status.clone();
    let sandbox = world.index.sandboxes.get(&entry.sandbox);
    let pod = sandbox.and_then(|sandbox| world.index.pod_of(&sandbox.uid));
    status.pod_name = pod.map(|pod| pod.key.name.to_string());
    status.observed_generation = entry.generation;
    let (kind, reason) = if report.succeeded {
        ("Complete", "StepsSucceeded")
    } else {
        ("Failed", "StepFailed")
    };
    let message = status.message.as_deref().unwrap_or_default();
    status.conditions = Some(vec![condition(
        &[],
        kind,
        true,
        reason,
        message,
        entry.generation,
        now,
    )]);
    status_patch(&entry.resource_version, status)
}

/// Ends a task that cannot run.
fn give_up(world: &mut World, key: &Key, why: &str, now: Timestamp) {
    let Some(entry) = world.index.tasks.get(key) else {
        return;
    };
    let report = never_ran(why, entry.started, now);
    let patch = end_patch(world, entry, &report, now);
    let about = reference::<Task>(key, &entry.uid);
    world.events.warn(about, "CannotRun", "Run", why.to_owned());
    write(world, key, patch);
}

fn tell_waiting(world: &mut World, key: &Key, why: &str, after: Duration, now: Timestamp) {
    let Some(entry) = world.index.tasks.get(key) else {
        return;
    };
    if entry.state == Some(TaskState::Pending) && entry.message.as_deref() == Some(why) {
        return;
    }
    // Creation times are whole seconds, so the wait counts from the first look.
    let since = *world.waiting.entry(key.clone()).or_insert(now);
    let due = later(since, after);
    if due > now {
        return world.wakes.at(due, Wake::Task(key.clone()));
    }
    let status = TaskStatus {
        state: Some(TaskState::Pending),
        message: Some(why.to_owned()),
        observed_generation: entry.generation,
        ..TaskStatus::default()
    };
    let patch = status_patch(&entry.resource_version, status);
    write(world, key, patch);
}

fn write(world: &mut World, key: &Key, patch: Value) {
    world.waiting.remove(key);
    if let Some(entry) = world.index.tasks.get_mut(key) {
        entry.writing = true;
        world.tray.writes.push(Write::Task {
            key: key.clone(),
            patch,
        });
    }
}

/// A task is gone, or another has taken its name: what runs for it ends.
pub(crate) fn stop(world: &mut World, key: &Key) {
    world.waiting.remove(key);
    if let Some(run) = world.runs.remove(key) {
        run.stop.kill.cancel();
        world.index.marks.task(key);
    }
}

/// A run has come to its end.
pub(crate) fn ended(world: &mut World, key: &Key, uid: &str, report: Report) {
    let Some(run) = world
        .runs
        .get_mut(key)
        .filter(|run| *run.uid == *uid && run.report.is_none())
    else {
        return;
    };
    world.metrics.task_ended(&report);
    let (ended, succeeded) = (report.ended, report.succeeded);
    run.report = Some(report);
    if let Some(task) = world.index.tasks.get_mut(key) {
        task.ended = Some(ended);
        if let Some(trace) = task.spec.as_ref().and_then(|spec| spec.trace_id.as_ref()) {
            tracing::info!(task = %key, trace, succeeded, "a task has ended");
        }
    }
    world.index.marks.task(key);
}

/// The API found a status too large: keep less of the output.
pub(crate) fn shrink(report: &mut Report) {
    let cut = |text: &mut Option<String>| {
        let Some(long) = text.as_ref().filter(|text| text.len() > SMALL_OUTPUT) else {
            return;
        };
        let mut end = SMALL_OUTPUT;
        while !long.is_char_boundary(end) {
            end -= 1;
        }
        *text = Some(format!(
            "{}\n[... the rest was too large to keep ...]\n",
            &long[..end]
        ));
    };
    cut(&mut report.status.stdout);
    cut(&mut report.status.stderr);
    for step in report.status.steps.iter_mut().flatten() {
        step.stdout = None;
        step.stderr = None;
        step.stdout_base64 = None;
        step.stderr_base64 = None;
    }
}
