//! A task from its first step to its last.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sandlot_api::arl::TaskSpec;
use sandlot_decide::task::{Course, Ending, Next};
use tokio_util::sync::CancellationToken;

use super::{
    Agents, Door, Report, key,
    report::{Entry, entry},
    room,
    step::{Errand, Outcome},
};
use crate::index::{Key, Uid};

/// A task to run.
pub(crate) struct Job {
    pub(crate) key: Key,
    pub(crate) uid: Uid,
    pub(crate) spec: Arc<TaskSpec>,
    pub(crate) door: Door,
    /// The pod's name, for people.
    pub(crate) pod: Arc<str>,
    pub(crate) work_dir: String,
    pub(crate) started: Timestamp,
    pub(crate) output_limit: usize,
}

/// How a running task is told to stop.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    /// The task is gone or its sandbox is: end what runs.
    pub(crate) kill: CancellationToken,
    /// The operator leaves: what runs goes on, and the next operator attaches to it.
    pub(crate) leave: CancellationToken,
}

/// Runs a task; nothing comes back if it was told to stop.
pub(crate) async fn run(agents: Arc<Agents>, job: Job, stop: Stop) -> Option<Report> {
    if let Err(why) = agents.stand_firm().await {
        // Whoever gave a way to see ahead starts the operator over.
        tracing::debug!(task = %job.key, why, "does not begin");
        return None;
    }
    let mut walk = Walk {
        course: Course::new(
            job.spec
                .steps
                .iter()
                .map(|step| step.timeout.map(|limit| limit.0))
                .collect(),
            job.spec.timeout.map(|limit| limit.0),
            job.spec
                .retries
                .and_then(|retries| u32::try_from(retries).ok())
                .unwrap_or(0),
            job.started,
        ),
        entries: Vec::new(),
        running: None,
    };
    tokio::select! {
        report = walk.go(&agents, &job) => return Some(report),
        () = stop.leave.cancelled() => return None,
        () = stop.kill.cancelled() => {}
    }
    if let Some(key) = walk.running
        && let Err(why) = agents.kill(&job.door, &key).await
    {
        // The pod is usually gone, and everything in it.
        tracing::debug!(task = %job.key, why, "could not end what ran");
    }
    None
}

struct Walk {
    course: Course,
    entries: Vec<Entry>,
    /// The key of the step that runs now.
    running: Option<String>,
}

impl Walk {
    async fn go(&mut self, agents: &Agents, job: &Job) -> Report {
        loop {
            match self.course.next(Timestamp::now()) {
                Next::Run {
                    step, limit, late, ..
                } => {
                    let begun = Timestamp::now();
                    let outcome = self.step(agents, job, step, limit, late, false).await;
                    self.record(job, step, outcome, begun);
                }
                Next::OutOfTime { step, limit } => {
                    // After a restart the clock has run on, but the step may have ended in time.
                    let begun = Timestamp::now();
                    let late = Ending::OutOfTime(limit);
                    let ended = late.report();
                    let outcome = self.step(agents, job, step, limit, late, true).await;
                    if outcome.unknown {
                        self.entries
                            .push(Entry::never(&job.spec.steps[step], &ended));
                        self.course.ended(ended);
                    } else {
                        self.record(job, step, outcome, begun);
                    }
                }
                Next::Retry { wait } => {
                    tokio::time::sleep(wait).await;
                    self.entries.clear();
                    self.course.retry(Timestamp::now());
                }
                Next::Done { succeeded } => {
                    for step in &job.spec.steps[self.entries.len()..] {
                        self.entries.push(Entry::of(step));
                    }
                    let attempts = self.course.attempt() + 1;
                    let entries = std::mem::take(&mut self.entries);
                    return Report::new(job, entries, succeeded, attempts, Timestamp::now());
                }
            }
        }
    }

    async fn step(
        &mut self,
        agents: &Agents,
        job: &Job,
        step: usize,
        limit: Duration,
        late: Ending,
        attach_only: bool,
    ) -> Outcome {
        let key = key::of(&job.uid, step, self.course.attempt(), &job.spec.steps[step]);
        self.running = Some(key.clone());
        let errand = Errand {
            door: &job.door,
            key,
            step: &job.spec.steps[step],
            work_dir: &job.work_dir,
            limit,
            late,
            output_limit: job.output_limit,
            log_beyond: room::logged_beyond(job.output_limit, job.spec.steps.len()),
            attach_only,
        };
        let outcome = agents.carry_out(&errand).await;
        self.running = None;
        outcome
    }

    fn record(&mut self, job: &Job, step: usize, outcome: Outcome, begun: Timestamp) {
        self.course.ended(outcome.ending.report());
        let key = key::of(&job.uid, step, self.course.attempt(), &job.spec.steps[step]);
        let entry = entry(&job.spec.steps[step], key, outcome, begun, Timestamp::now());
        self.entries.push(entry);
        room::make(&mut self.entries);
    }
}
