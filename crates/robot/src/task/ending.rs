//! What is said of an attempt: as it goes on, and how it all ended.

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_api::robot::{
    TaskState,
    wire::{LOG_TAIL, News, TaskReport},
};
use sandlot_supervisor::{Chunk, End, Key, Outcome, Run, Stream};

use super::{Life, Over};

impl Life<'_> {
    /// The last report, which says how it all ended.
    pub(super) async fn end(&mut self, over: Result<Arc<Outcome>, Over>) {
        if matches!(over, Err(Over::Stopped)) {
            self.stop_what_runs().await;
        }
        let report = &mut self.entry.report;
        let (state, event, reason, message) = match over {
            Ok(outcome) => {
                report.exit_code = Some(outcome.end.code());
                report.signal = outcome.end.signal();
                report.finished_at = Some(outcome.finished);
                let (state, event, reason) = verdict(outcome.end);
                (state, event, reason, Some(outcome.reason.clone()))
            }
            Err(Over::Stopped) => {
                if let Some(outcome) = self.run.as_ref().and_then(Run::outcome) {
                    report.exit_code = Some(outcome.end.code());
                    report.signal = outcome.end.signal();
                }
                (
                    TaskState::Cancelled,
                    "Stopped",
                    Some("Stopped"),
                    Some("stopped on request".to_owned()),
                )
            }
            Err(Over::Rejected(reason, why)) => {
                (TaskState::Rejected, "StartFailed", Some(reason), Some(why))
            }
            Err(Over::Failed(reason, why)) => (TaskState::Failed, reason, Some(reason), Some(why)),
            Err(Over::Broken(error)) => {
                tracing::warn!(task = self.task.name, %error, "a task is left to the next agent");
                return;
            }
        };
        report.finished_at.get_or_insert_with(Timestamp::now);
        report.reason = reason.map(str::to_owned);
        self.entry.over = true;
        if let Some(run) = self.run.take() {
            self.entry.report.stdout = Some(tail(&run, Stream::Stdout).await);
            self.entry.report.stderr = Some(tail(&run, Stream::Stderr).await);
        }
        self.fill_report(state, event, message);
        if let Err(error) = self.note().await {
            tracing::error!(task = self.task.name, %error, "the end of a task cannot be noted");
        }
        self.shop
            .tell(News::Task(Box::new(self.entry.report.clone())))
            .await;
    }

    /// Ends what this attempt has running without anybody waiting for it: its group's tasks before, and
    /// its own program where an earlier agent started that and this one has only come to stop it.
    async fn stop_what_runs(&mut self) {
        for init in &self.task.init_tasks {
            if let Some(run) = self.known_run(self.init_key(init)).await {
                self.group.keep(run);
            }
        }
        if self.run.is_none()
            && let Some(run) = self.known_run(self.key()).await
        {
            if run.outcome().is_none() {
                run.stop();
                if let Some(outcome) = run.ended().await {
                    self.clear_away(&outcome).await;
                }
            }
            self.run = Some(run);
        }
    }

    async fn known_run(&self, key: Result<Key, Over>) -> Option<Run> {
        let found = self.shop.supervisor.find(&key.ok()?).await;
        found.unwrap_or_else(|error| {
            tracing::error!(task = self.task.name, %error, "what runs of a task cannot be found, and is not stopped");
            None
        })
    }

    pub(super) async fn say(&mut self, state: TaskState, event: &str, message: Option<String>) {
        self.fill_report(state, event, message);
        self.shop
            .tell(News::Task(Box::new(self.entry.report.clone())))
            .await;
    }

    pub(super) fn fill_report(&mut self, state: TaskState, event: &str, message: Option<String>) {
        self.entry.report = TaskReport {
            key: self.task.key.clone(),
            name: self.task.name.clone(),
            namespace: self.task.namespace.clone(),
            state,
            event: Some(event.to_owned()),
            message,
            ..std::mem::take(&mut self.entry.report)
        };
    }
}

/// What an end means: the state, the published word for it, and the reason.
fn verdict(end: End) -> (TaskState, &'static str, Option<&'static str>) {
    match end {
        End::Exited(0) => (TaskState::Completed, "Completed", None),
        End::Exited(_) => (TaskState::Failed, "Failed", Some("ExitCode")),
        End::Signalled(_) => (TaskState::Failed, "Failed", Some("Signalled")),
        End::TimedOut { .. } => (TaskState::Failed, "Timeout", Some("Timeout")),
        End::Stopped { .. } => (TaskState::Cancelled, "Stopped", Some("Stopped")),
        End::NotFound | End::NotStartable => {
            (TaskState::Failed, "StartFailed", Some("StartFailed"))
        }
        End::Lost => (TaskState::Failed, "Failed", Some("Lost")),
    }
}

/// The end of what a run has printed.
pub(crate) async fn tail(run: &Run, stream: Stream) -> String {
    let from = run.written(stream).saturating_sub(LOG_TAIL as u64);
    let mut reader = run.output(stream, from);
    let mut bytes = Vec::new();
    // What is no longer there, or cannot be read, is left out: it is for people to look at.
    while let Ok(Some(chunk)) = reader.read() {
        if let Chunk::Bytes(piece) = chunk {
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() > 4 * LOG_TAIL {
            break;
        }
    }
    let from = bytes.len().saturating_sub(LOG_TAIL);
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
