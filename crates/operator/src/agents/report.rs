//! What came of a task, as its status says it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::{
    GoDuration,
    arl::{Step, StepState, StepStatus, StepType, TaskState, TaskStatus},
};
use sandlot_decide::task::{Ended, share};

use super::{
    Job,
    output::{Form, Kept},
    room,
    step::Outcome,
};

/// What is remembered of one step until the task ends.
pub(super) struct Entry {
    name: String,
    /// The key it ran under; nothing if it never did.
    key: Option<String>,
    is_command: bool,
    pub(super) state: StepState,
    code: Option<i32>,
    error: Option<String>,
    stdout: Kept,
    stderr: Kept,
    pid: Option<i32>,
    begun: Option<Timestamp>,
    ended: Option<Timestamp>,
}

/// What came of a task.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) status: TaskStatus,
    pub(crate) succeeded: bool,
    pub(crate) ended: Timestamp,
}

/// A step that has ended.
pub(super) fn entry(
    step: &Step,
    key: String,
    outcome: Outcome,
    begun: Timestamp,
    ended: Timestamp,
) -> Entry {
    let report = outcome.ending.report();
    Entry {
        key: Some(key),
        state: match (&report.error, outcome.pid) {
            (Some(_), _) => StepState::Failed,
            (None, Some(_)) => StepState::Running,
            (None, None) => StepState::Succeeded,
        },
        code: Some(report.code),
        error: report.error,
        stdout: outcome.stdout,
        stderr: outcome.stderr,
        pid: outcome.pid,
        begun: Some(begun),
        ended: Some(ended),
        ..Entry::of(step)
    }
}

impl Entry {
    /// A step that never ran.
    pub(super) fn of(step: &Step) -> Self {
        Self {
            name: step.name.clone(),
            key: None,
            is_command: step.kind == StepType::Command,
            state: StepState::Skipped,
            code: None,
            error: None,
            stdout: Kept::new(0),
            stderr: Kept::new(0),
            pid: None,
            begun: None,
            ended: None,
        }
    }

    /// A step that could not even start.
    pub(super) fn never(step: &Step, ended: &Ended) -> Self {
        Self {
            state: StepState::Failed,
            code: Some(ended.code),
            error: ended.error.clone(),
            ..Self::of(step)
        }
    }

    /// Whether it is a command that ran.
    pub(super) fn is_command(&self) -> bool {
        self.is_command && self.code.is_some()
    }

    /// How many bytes of each stream it holds.
    pub(super) fn held(&self) -> [usize; 2] {
        [self.stdout.held(), self.stderr.held()]
    }

    /// From now on holds no more than so many.
    pub(super) fn shrink(&mut self, limits: [usize; 2]) {
        self.stdout.shrink(limits[0]);
        self.stderr.shrink(limits[1]);
    }

    fn costs(&self, form: Form) -> [usize; 2] {
        [self.stdout.cost(form), self.stderr.cost(form)]
    }

    fn status(&self, pod: &str, budgets: [usize; 2]) -> StepStatus {
        let stdout = self.stdout.text(budgets[0], Form::TextAndBytes);
        let stderr = self.stderr.text(budgets[1], Form::TextAndBytes);
        let omitted = stdout.omitted + stderr.omitted;
        let encode = |bytes: Option<Vec<u8>>| bytes.map(|bytes| base64(&bytes));
        let key = self
            .key
            .as_ref()
            .filter(|_| omitted > 0 || self.pid.is_some());
        StepStatus {
            name: self.name.clone(),
            state: Some(self.state),
            exit_code: self.code,
            stdout: Some(stdout.text).filter(|text| !text.is_empty()),
            stderr: Some(stderr.text).filter(|text| !text.is_empty()),
            stdout_base64: encode(stdout.bytes),
            stderr_base64: encode(stderr.bytes),
            omitted_bytes: i64::try_from(omitted).ok().filter(|omitted| *omitted > 0),
            output_log: key.map(|key| place(pod, key)),
            error: self.error.clone(),
            pid: self.pid,
            started_at: self.begun.map(Time),
            completed_at: self.ended.map(Time),
            duration: self
                .begun
                .zip(self.ended)
                .map(|(begun, ended)| between(begun, ended)),
        }
    }
}

/// Where all of a step's output can be read.
fn place(pod: &str, key: &str) -> String {
    format!(
        "kubectl logs {pod}, the blocks that begin with a line [{key} stdout …] or [{key} stderr …]"
    )
}

impl Report {
    pub(super) fn new(
        job: &Job,
        entries: Vec<Entry>,
        succeeded: bool,
        attempts: u32,
        ended: Timestamp,
    ) -> Self {
        let last_command = entries.iter().rev().find(|entry| entry.is_command());
        let last_run = entries.iter().rev().find(|entry| entry.code.is_some());
        let failed = entries
            .iter()
            .find(|entry| entry.state == StepState::Failed);
        let message = failed.map(|entry| {
            let why = entry.error.as_deref().unwrap_or("it failed");
            format!("step {:?}: {why}", entry.name)
        });
        // Of the room there is, the steps have a quarter for sure.
        let room = room::left(&job.spec);
        let own = last_command.map_or([0; 2], |entry| entry.costs(Form::Text));
        let own = share(&own, room / 4 * 3);
        let wanted: Vec<usize> = entries
            .iter()
            .flat_map(|entry| entry.costs(Form::TextAndBytes))
            .collect();
        let budgets = share(&wanted, room - own.iter().sum::<usize>());
        let steps = entries.iter().zip(budgets.chunks_exact(2));
        let steps = steps.map(|(entry, budget)| entry.status(&job.pod, [budget[0], budget[1]]));
        let steps = steps.collect();
        let stdout = last_command.map(|entry| entry.stdout.text(own[0], Form::Text));
        let stderr = last_command.map(|entry| entry.stderr.text(own[1], Form::Text));
        let status = TaskStatus {
            state: Some(if succeeded {
                TaskState::Succeeded
            } else {
                TaskState::Failed
            }),
            exit_code: Some(last_run.and_then(|entry| entry.code).unwrap_or(0)),
            stdout: Some(stdout.unwrap_or_default().text),
            stderr: Some(stderr.unwrap_or_default().text),
            duration: Some(between(job.started, ended)),
            start_time: Some(Time(job.started)),
            started_at: Some(Time(job.started)),
            completion_time: Some(Time(ended)),
            completed_at: Some(Time(ended)),
            steps: Some(steps),
            attempts: i32::try_from(attempts).ok(),
            message: Some(message.unwrap_or_else(|| "all steps succeeded".to_owned())),
            ..TaskStatus::default()
        };
        Self {
            status,
            succeeded,
            ended,
        }
    }
}

/// The report of a task that could not run, or whose pod was lost.
pub(crate) fn never_ran(why: &str, started: Option<Timestamp>, now: Timestamp) -> Report {
    let begun = started.unwrap_or(now);
    Report {
        status: TaskStatus {
            state: Some(TaskState::Failed),
            exit_code: Some(1),
            stdout: Some(String::new()),
            stderr: Some(format!("{why}\n")),
            duration: Some(between(begun, now)),
            start_time: started.map(Time),
            started_at: started.map(Time),
            completion_time: Some(Time(now)),
            completed_at: Some(Time(now)),
            message: Some(why.to_owned()),
            ..TaskStatus::default()
        },
        succeeded: false,
        ended: now,
    }
}

fn between(begun: Timestamp, ended: Timestamp) -> GoDuration {
    let passed = Duration::try_from(ended.duration_since(begun)).unwrap_or_default();
    // Whoever reads it wants "1.234s", not nine digits.
    GoDuration(Duration::from_micros(passed.as_micros() as u64))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
