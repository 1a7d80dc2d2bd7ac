//! Carrying out one execution: from its code, through its session's agent, to its end.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use sandlot_api::executor::{ABOUT_THE_SESSION, Ended, RunRequest};
use sandlot_decide::session::{ExecutionStatus, SessionStatus};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    attempt::{Attempt, Broken, Next, PATIENCE},
    claims::Standing,
    executors::Executor,
    gateway::Gateway,
    ledger::{Execution, Metrics, Session},
    moment::now,
    output::Output,
    wire::{MAX_PROCESSES, PACKAGES},
};

/// An execution that takes longer than this is noted as running.
const SOON: Duration = Duration::from_millis(100);

impl Gateway {
    /// From the code to its end.
    pub(crate) async fn carry_out(
        &self,
        mut execution: Execution,
        mut session: Session,
    ) -> Execution {
        let is_running = execution.status == ExecutionStatus::Running;
        let mut attempt = Attempt::new(is_running, Instant::now());
        loop {
            let broken = match self.attempt(&mut execution, &session, &mut attempt).await {
                Ok(()) => return execution,
                Err(broken) => broken,
            };
            let retries = execution.retries_left();
            match attempt.after(broken, retries, Instant::now()) {
                Next::Wait(pause) => {
                    tokio::time::sleep(pause).await;
                    self.look_again(&mut session, &mut attempt).await;
                }
                Next::Retry(why) => {
                    tracing::info!(
                        execution = execution.id,
                        why,
                        "it is run again, as asked for"
                    );
                    execution.begin_again(why);
                    attempt = Attempt::new(false, Instant::now());
                    // It is run again all the same if this cannot be noted now.
                    let _ = self.ledger.note_execution(&execution).await;
                    self.look_again(&mut session, &mut attempt).await;
                }
                Next::End(status, why) => {
                    execution.status = status;
                    execution.outcome.error = Some(why);
                    execution.outcome.completed = Some(now());
                    return execution;
                }
            }
        }
    }

    /// Where the session stands after an attempt broke: it may have another pod, or none.
    async fn look_again(&self, session: &mut Session, attempt: &mut Attempt) {
        let found = match self.ledger.session(&session.id).await {
            Ok(found) => found,
            // Without the database nothing is known to have changed.
            Err(_) => return,
        };
        match found {
            Some(now) if now.status == SessionStatus::Running => {
                if now.facts.claim != session.facts.claim || now.facts.pod != session.facts.pod {
                    attempt.moved(lost(session, "it was given another"), Instant::now());
                    *session = now;
                }
            }
            Some(ended) => attempt.over(format!(
                "session {} is {} ({})",
                ended.id,
                ended.status.as_str(),
                ended.facts.reason
            )),
            None => attempt.over(format!("session {} was deleted", session.id)),
        }
    }

    async fn attempt(
        &self,
        execution: &mut Execution,
        session: &Session,
        attempt: &mut Attempt,
    ) -> Result<(), Broken> {
        attempt.goes_on()?;
        let claim = &session.facts.claim;
        if session.facts.pod.is_empty() {
            return Err(Broken::Waits(format!(
                "session {} waits for another pod",
                session.id
            )));
        }
        let executor = self.executors.of(&self.claims, claim, PATIENCE).await;
        let executor = executor
            .map_err(|error| attempt.unreachable(format!("session {}: {error}", session.id)))?;
        if executor.pod != session.facts.pod {
            return Err(attempt.unreachable(lost(session, "its sandbox has another")));
        }
        let request = self.request(execution, session, attempt.attach_only());
        attempt.sent();
        let started = executor.client().run(request).await;
        let mut events = match started {
            Ok(events) => events.into_inner(),
            Err(status) if status.code() == Code::NotFound => {
                return Err(Broken::Crashed(format!(
                    "the agent of session {} was restarted and does not know of it any more",
                    session.id
                )));
            }
            Err(status) => return Err(self.broken(session, &status)),
        };
        attempt.attached();
        execution.outcome.started.get_or_insert_with(now);
        let limit = self.settings.output_limit;
        let (mut stdout, mut stderr) = (Output::new(limit), Output::new(limit));
        let mut noted = execution.status == ExecutionStatus::Running;
        let (begun, soon) = (Instant::now(), tokio::time::sleep(SOON));
        tokio::pin!(soon);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut soon, if !noted => {
                    execution.status = ExecutionStatus::Running;
                    // It runs all the same if this cannot be noted now. Where there is no note of
                    // it, that one may still be on its way.
                    noted = self.ledger.note_execution(execution).await.unwrap_or(true)
                        || begun.elapsed() > PATIENCE;
                    soon.as_mut().reset(Instant::now() + SOON);
                    continue;
                }
            };
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(status)) => return Err(self.broken(session, &status)),
                None => {
                    return Err(Broken::Again(format!(
                        "the agent of session {} broke off",
                        session.id
                    )));
                }
            };
            attempt.heard(Instant::now());
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
            Code::ResourceExhausted => Broken::Waits(format!("session {}: {message}", session.id)),
            _ => match self.claims.standing(&session.facts.claim) {
                Some(Standing::Lost(why)) => Broken::Crashed(lost(session, &why)),
                _ => Broken::Again(format!(
                    "the agent of session {} does not answer: {message}",
                    session.id
                )),
            },
        }
    }

    fn request(&self, execution: &Execution, session: &Session, attach_only: bool) -> RunRequest {
        let asked = &execution.request;
        RunRequest {
            key: execution.key(),
            language: asked.language.clone(),
            code: asked.code.clone(),
            event: asked
                .event
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            timeout_millis: asked.timeout * 1000,
            env: self.environment(session).into_iter().collect(),
            working_directory: asked.working_directory.clone(),
            attach_only,
            prestarted: session.facts.prestarted,
            max_processes: MAX_PROCESSES,
        }
    }

    /// The session's own variables, and what code may want to know of where it runs.
    pub(crate) fn environment(&self, session: &Session) -> BTreeMap<String, String> {
        let [id, workspace, control_plane, token_name] = ABOUT_THE_SESSION.map(str::to_owned);
        let mut env = BTreeMap::from([
            (id, session.id.clone()),
            (workspace, "/workspace".to_owned()),
        ]);
        if let Some(url) = &self.settings.callback_url {
            env.insert(control_plane, url.clone());
            env.insert(token_name, self.callbacks.token(&session.id));
        }
        env.extend(session.facts.env.clone());
        if !session.facts.installed.is_empty() {
            let path = match env.get("PYTHONPATH") {
                Some(more) => format!("{PACKAGES}:{more}"),
                None => PACKAGES.to_owned(),
            };
            env.insert("PYTHONPATH".to_owned(), path);
        }
        env
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
        outcome.error = None;
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
            let why = why(&ended, &execution.outcome.stderr);
            execution.outcome.error = Some(match ended.lost {
                true => format!("session {}: the execution {why}", execution.session),
                false => why,
            });
        }
        let kept = self.keep_files(&execution.session, executor, &ended).await;
        execution.outcome.files_left_out = ended.files_left_out || kept.len() < ended.changed.len();
        execution.outcome.artifacts = kept;
        execution.outcome.completed = Some(now());
    }
}

fn lost(session: &Session, why: &str) -> String {
    format!(
        "session {} lost its pod {}: {why}",
        session.id, session.facts.pod
    )
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
