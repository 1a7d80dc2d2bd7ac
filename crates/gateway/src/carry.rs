//! Carrying out one execution: from its code, through its session's agent, to its end.

use std::{collections::HashMap, time::Duration};

use futures::StreamExt;
use sandlot_api::executor::{Ended, RunRequest};
use sandlot_decide::session::ExecutionStatus;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    claims::{ClaimError, Standing},
    executors::{Executor, ReachError},
    gateway::Gateway,
    ledger::{Execution, Metrics, Session},
    moment::now,
    output::Output,
    runs::AGAIN,
    wire::PACKAGES,
};

/// How long an agent that does not answer is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// And so often at most.
const MOST_FAILURES: u32 = 50;
/// An execution that takes longer than this is noted as running.
const SOON: Duration = Duration::from_millis(100);

/// Why an attempt came to no end.
enum Broken {
    /// Trying again may help.
    Again(String),
    /// It will not: what is known is that it did not end well.
    Crashed(String),
    /// It was never started and cannot be.
    Refused(String),
}

impl Gateway {
    /// From the code to its end.
    pub(crate) async fn carry_out(&self, mut execution: Execution, session: &Session) -> Execution {
        let mut attempt = Attempt {
            attach_only: execution.status == ExecutionStatus::Running,
            silent_since: Instant::now(),
            failures: 0,
        };
        let broken = loop {
            match self.attempt(&mut execution, session, &mut attempt).await {
                Ok(()) => return execution,
                Err(Broken::Again(why)) => {
                    if attempt.is_hopeless() {
                        break Broken::Crashed(why);
                    }
                    attempt.failures += 1;
                    tokio::time::sleep(AGAIN.after(attempt.failures)).await;
                }
                Err(ending) => break ending,
            }
        };
        let (status, why) = match broken {
            Broken::Refused(why) => (ExecutionStatus::Failed, why),
            Broken::Again(why) | Broken::Crashed(why) => (ExecutionStatus::Crashed, why),
        };
        execution.status = status;
        execution.outcome.error = Some(why);
        execution.outcome.completed = Some(now());
        execution
    }

    async fn attempt(
        &self,
        execution: &mut Execution,
        session: &Session,
        attempt: &mut Attempt,
    ) -> Result<(), Broken> {
        let claim = &session.facts.claim;
        let executor = self.executors.of(&self.claims, claim, PATIENCE).await;
        let executor = executor.map_err(|error| self.unreachable(session, &error))?;
        if executor.pod != session.facts.pod {
            return Err(Broken::Crashed(format!(
                "session {} lost pod {} while this ran in it; run it again in its new pod",
                session.id, session.facts.pod
            )));
        }
        let request = request(execution, session, attempt.attach_only);
        let started = executor.client().run(request).await;
        let mut events = match started {
            Ok(events) => events.into_inner(),
            Err(status) if status.code() == Code::NotFound => {
                return Err(Broken::Crashed(
                    "the session's agent was restarted and does not know of it any more".to_owned(),
                ));
            }
            Err(status) => return Err(self.broken(session, &status)),
        };
        execution.outcome.started.get_or_insert_with(now);
        let limit = self.settings.output_limit;
        let (mut stdout, mut stderr) = (Output::new(limit), Output::new(limit));
        let mut noted = execution.status == ExecutionStatus::Running;
        let soon = tokio::time::sleep(SOON);
        tokio::pin!(soon);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut soon, if !noted => {
                    noted = true;
                    execution.status = ExecutionStatus::Running;
                    // It runs all the same if this cannot be noted now.
                    let _ = self.ledger.note_execution(execution).await;
                    continue;
                }
            };
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(status)) => {
                    attempt.broke_off();
                    return Err(self.broken(session, &status));
                }
                None => {
                    attempt.broke_off();
                    return Err(Broken::Again("the session's agent broke off".to_owned()));
                }
            };
            attempt.heard();
            stdout.miss(event.stdout_missing);
            stdout.push(&event.stdout);
            stderr.miss(event.stderr_missing);
            stderr.push(&event.stderr);
            if let Some(ended) = event.ended {
                self.finish(execution, &executor, ended, (&stdout, &stderr))
                    .await;
                return Ok(());
            }
        }
    }

    /// What an agent's refusal, or its silence, means.
    fn broken(&self, session: &Session, status: &Status) -> Broken {
        let message = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition => Broken::Refused(message),
            _ => match self.claims.standing(&session.facts.claim) {
                Some(Standing::Lost(why)) => Broken::Crashed(lost(session, &why)),
                _ => Broken::Again(format!(
                    "the agent of session {} does not answer: {message}",
                    session.id
                )),
            },
        }
    }

    fn unreachable(&self, session: &Session, error: &ReachError) -> Broken {
        match error {
            ReachError::Claim(ClaimError::Lost(why)) => Broken::Crashed(lost(session, why)),
            error => Broken::Again(format!("session {}: {error}", session.id)),
        }
    }

    /// Takes over how it ended, and keeps the files it left.
    async fn finish(
        &self,
        execution: &mut Execution,
        executor: &Executor,
        ended: Ended,
        (stdout, stderr): (&Output, &Output),
    ) {
        let outcome = &mut execution.outcome;
        outcome.stdout = stdout.text();
        outcome.stderr = stderr.text();
        outcome.truncated = stdout.is_cut() || stderr.is_cut();
        outcome.exit_code = Some(ended.exit_code);
        outcome.result = String::from_utf8(ended.result.to_vec())
            .ok()
            .filter(|text| !text.is_empty());
        outcome.metrics = Some(Metrics {
            duration_ms: ended.duration_millis,
            cpu_time_ms: ended.cpu_millis,
            peak_memory_mb: (ended.peak_memory_bytes as f64 / 1048.576).round() / 1000.0,
            io_read_bytes: ended.read_bytes,
            io_write_bytes: ended.written_bytes,
        });
        execution.status = status(&ended);
        if execution.status != ExecutionStatus::Completed {
            execution.outcome.error = Some(why(&ended, &execution.outcome.stderr));
        }
        let kept = self.keep_files(&execution.session, executor, &ended).await;
        execution.outcome.artifacts = kept;
        execution.outcome.completed = Some(now());
    }
}

/// How carrying out goes, from one attempt to the next.
struct Attempt {
    /// It was started: it must not be started again.
    attach_only: bool,
    /// Since when it does not answer.
    silent_since: Instant,
    /// How often in a row nothing was heard.
    failures: u32,
}

impl Attempt {
    fn heard(&mut self) {
        self.failures = 0;
    }

    /// It was started, and then the connection broke.
    fn broke_off(&mut self) {
        self.attach_only = true;
        self.silent_since = Instant::now();
    }

    /// Whether it makes no sense to try again.
    fn is_hopeless(&self) -> bool {
        self.failures >= MOST_FAILURES || self.silent_since.elapsed() > PATIENCE
    }
}

fn request(execution: &Execution, session: &Session, attach_only: bool) -> RunRequest {
    let asked = &execution.request;
    RunRequest {
        key: execution.id.clone(),
        language: asked.language.clone(),
        code: asked.code.clone(),
        event: asked
            .event
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        timeout_millis: asked.timeout * 1000,
        env: environment(session),
        working_directory: asked.working_directory.clone(),
        attach_only,
    }
}

/// The session's own variables, and where its packages are.
fn environment(session: &Session) -> HashMap<String, String> {
    let mut env: HashMap<_, _> = session.facts.env.clone().into_iter().collect();
    if !session.facts.installed.is_empty() {
        let path = match env.get("PYTHONPATH") {
            Some(more) => format!("{PACKAGES}:{more}"),
            None => PACKAGES.to_owned(),
        };
        env.insert("PYTHONPATH".to_owned(), path);
    }
    env
}

fn lost(session: &Session, why: &str) -> String {
    format!("session {} lost its pod: {why}", session.id)
}

fn status(ended: &Ended) -> ExecutionStatus {
    match ended {
        Ended { lost: true, .. } => ExecutionStatus::Crashed,
        Ended {
            timed_out: true, ..
        } => ExecutionStatus::Timeout,
        Ended { exit_code: 0, .. } => ExecutionStatus::Completed,
        _ => ExecutionStatus::Failed,
    }
}

/// Why code did not end well: its own last words, where it ended by itself.
fn why(ended: &Ended, stderr: &str) -> String {
    let by_itself = !ended.lost && !ended.timed_out && !ended.stopped;
    let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
    match last {
        Some(last) if by_itself => last.chars().take(500).collect(),
        _ => ended.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_it_failed_is_its_own_last_word_or_what_ended_it() {
        let ended = Ended {
            exit_code: 1,
            reason: "ended with exit code 1".to_owned(),
            ..Ended::default()
        };
        let trace = "Traceback …\nZeroDivisionError: division by zero\n\n";
        assert_eq!(why(&ended, trace), "ZeroDivisionError: division by zero");
        assert_eq!(why(&ended, " \n"), "ended with exit code 1");
        let late = Ended {
            timed_out: true,
            reason: "ran into its time limit of 1s".to_owned(),
            ..ended
        };
        assert_eq!(why(&late, trace), "ran into its time limit of 1s");
        assert_eq!(status(&late), ExecutionStatus::Timeout);
    }
}
