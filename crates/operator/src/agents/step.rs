//! One step, through the agent of one pod.
//!
//! Every step carries a key. If the connection breaks, or the operator is restarted, the step is
//! asked for again under the same key: the agent then attaches to what is already running, or
//! answers from its records, and never starts a second one.

use std::time::Duration;

use sandlot_api::{
    agent::{ExecLog, ExecRequest, FileRequest},
    arl::{Step, StepType},
};
use sandlot_decide::task::Ending;
use tokio::time::Instant;
use tonic::Code;

use super::{Agents, Door, RECONNECT, is_final, output::Kept};

/// How long an agent may take to report an end that it enforces itself.
const SLACK: Duration = Duration::from_secs(15);

/// A step to run.
pub(crate) struct Errand<'a> {
    pub(crate) door: &'a Door,
    pub(crate) key: String,
    pub(crate) step: &'a Step,
    pub(crate) work_dir: &'a str,
    pub(crate) limit: Duration,
    /// What its end is called when that time is over.
    pub(crate) late: Ending,
    pub(crate) output_limit: usize,
    /// Output longer than this is told in the pod's log too.
    pub(crate) log_beyond: usize,
    /// Only hear what became of it, if it was ever started.
    pub(crate) attach_only: bool,
}

/// What came of a step.
pub(crate) struct Outcome {
    pub(crate) ending: Ending,
    pub(crate) stdout: Kept,
    pub(crate) stderr: Kept,
    /// The process, when it lives on in the background.
    pub(crate) pid: Option<i32>,
    /// It was never started, and was not to be.
    pub(crate) unknown: bool,
}

impl Outcome {
    fn silent(ending: Ending) -> Self {
        Self {
            ending,
            stdout: Kept::new(0),
            stderr: Kept::new(0),
            pid: None,
            unknown: false,
        }
    }

    fn broken(why: impl Into<String>) -> Self {
        Self::silent(Ending::Broken {
            code: 1,
            why: why.into(),
        })
    }
}

impl Agents {
    /// Runs a step to its end.
    pub(crate) async fn carry_out(&self, errand: &Errand<'_>) -> Outcome {
        match errand.step.kind {
            StepType::Command => self.command(errand).await,
            StepType::FilePatch => self.file(errand).await,
        }
    }

    async fn command(&self, errand: &Errand<'_>) -> Outcome {
        let Some(command) = errand
            .step
            .command
            .clone()
            .filter(|command| !command.is_empty())
        else {
            return Outcome::broken(
                "the step has no command: write `command: [program, argument, …]`",
            );
        };
        let background = errand.step.background.unwrap_or(false);
        // What runs in the background lives as long as its sandbox, unless it says otherwise.
        let limit = Some(errand.limit).filter(|_| !background || errand.step.timeout.is_some());
        let mut outcome = Outcome {
            ending: Ending::Exited(0),
            stdout: Kept::new(errand.output_limit),
            stderr: Kept::new(errand.output_limit),
            pid: None,
            unknown: false,
        };
        let until = Instant::now() + errand.limit + SLACK;
        let mut failures = 0;
        loop {
            let request = ExecRequest {
                command: command.clone(),
                env: errand
                    .step
                    .env
                    .clone()
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
                working_dir: errand
                    .step
                    .work_dir
                    .clone()
                    .unwrap_or_else(|| errand.work_dir.to_owned()),
                background,
                key: errand.key.clone(),
                timeout_millis: limit.map_or(0, |limit| {
                    i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
                }),
                stdout_offset: outcome.stdout.total(),
                stderr_offset: outcome.stderr.total(),
                attach_only: errand.attach_only,
                log: true,
                // What runs in the background has no other place for what it prints.
                log_beyond: if background {
                    0
                } else {
                    errand.log_beyond as u64
                },
                ..ExecRequest::default()
            };
            let followed =
                tokio::time::timeout_at(until, self.follow(errand, request, &mut outcome)).await;
            let broken = match followed {
                Ok(Ok(ending)) => {
                    outcome.ending = ending;
                    return outcome;
                }
                Ok(Err(status)) => status,
                Err(_) => {
                    outcome.ending = errand.late.clone();
                    return outcome;
                }
            };
            outcome.unknown = errand.attach_only && broken.code() == Code::NotFound;
            if is_final(broken.code()) || Instant::now() >= until {
                outcome.ending = Ending::Broken {
                    code: 1,
                    why: format!("the pod's agent: {}", broken.message()),
                };
                return outcome;
            }
            tracing::debug!(key = errand.key, %broken, "lost the agent, asking again");
            failures += 1;
            tokio::time::sleep(RECONNECT.after(failures)).await;
        }
    }

    /// Follows a command to its end, or until the connection breaks.
    async fn follow(
        &self,
        errand: &Errand<'_>,
        request: ExecRequest,
        outcome: &mut Outcome,
    ) -> Result<Ending, tonic::Status> {
        let background = request.background;
        let mut frames = self.at(errand.door)?.execute(request).await?.into_inner();
        while let Some(frame) = frames.message().await? {
            outcome
                .stdout
                .push(part(&frame.stdout_bytes, &frame.stdout));
            outcome
                .stderr
                .push(part(&frame.stderr_bytes, &frame.stderr));
            outcome.stdout.miss(frame.stdout_missing);
            outcome.stderr.miss(frame.stderr_missing);
            if frame.done {
                // The first frame of a background step that lives on is also its last.
                outcome.pid = Some(frame.pid).filter(|pid| background && *pid > 0);
                return Ok(ending(&frame, &errand.late));
            }
        }
        Err(tonic::Status::unavailable(
            "the stream ended before the command did",
        ))
    }

    async fn file(&self, errand: &Errand<'_>) -> Outcome {
        let Some(path) = errand.step.path.clone().filter(|path| !path.is_empty()) else {
            return Outcome::broken("the step has no path: write `path: /workspace/file`");
        };
        let mut request = FileRequest {
            base_path: errand
                .step
                .work_dir
                .clone()
                .unwrap_or_else(|| errand.work_dir.to_owned()),
            key: errand.key.clone(),
            ..FileRequest::default()
        };
        match (&errand.step.content, &errand.step.patch) {
            (Some(content), _) => {
                request.files.insert(path, content.clone());
            }
            (None, Some(patch)) => {
                request.patch = with_header(&path, patch);
                request.patch_path = path;
            }
            (None, None) => return Outcome::broken("the step has neither content nor patch"),
        }
        let until = Instant::now() + errand.limit;
        let mut failures = 0;
        loop {
            let call = async { self.at(errand.door)?.update_files(request.clone()).await };
            let broken = match tokio::time::timeout_at(until, call).await {
                Err(_) => return Outcome::silent(errand.late.clone()),
                Ok(Ok(answer)) => {
                    let answer = answer.into_inner();
                    return if answer.success {
                        Outcome::silent(Ending::Exited(0))
                    } else {
                        Outcome::broken(answer.message)
                    };
                }
                Ok(Err(status)) => status,
            };
            if is_final(broken.code()) {
                return Outcome::broken(format!("the pod's agent: {}", broken.message()));
            }
            failures += 1;
            tokio::time::sleep(RECONNECT.after(failures)).await;
        }
    }
}

/// Text that is not UTF-8 comes as bytes.
fn part<'a>(bytes: &'a [u8], text: &'a str) -> &'a [u8] {
    if bytes.is_empty() {
        text.as_bytes()
    } else {
        bytes
    }
}

fn ending(frame: &ExecLog, late: &Ending) -> Ending {
    if frame.timed_out {
        late.clone()
    } else if frame.signal > 0 {
        Ending::Killed(frame.signal)
    } else if frame.exit_code != 0 && !frame.reason.is_empty() {
        Ending::Broken {
            code: frame.exit_code,
            why: frame.reason.clone(),
        }
    } else {
        Ending::Exited(frame.exit_code)
    }
}

/// A diff names its file in its header; one without gets the step's path.
fn with_header(path: &str, patch: &str) -> String {
    let has_header = patch.lines().any(|line| line.starts_with("+++ "));
    if has_header {
        patch.to_owned()
    } else {
        format!("--- {path}\n+++ {path}\n{patch}")
    }
}
