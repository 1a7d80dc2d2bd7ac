//! Execute: starts a command or finds it by its key, and follows its output to the end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use sandlot_api::agent::{ExecLog, ExecRequest};
use sandlot_supervisor::{
    Chunk, End, Input, Key, Launch, Memory, Outcome, Reader, Run, StartError, Stream,
};
use tonic::Status;

use super::broken;
use super::text::{self, Carried};
use crate::agent::Agent;

/// The most input a request may carry for its command.
const LARGEST_INPUT: usize = 4 << 20;

pub(super) async fn execute(
    agent: &Arc<Agent>,
    request: ExecRequest,
) -> Result<BoxStream<'static, Result<ExecLog, Status>>, Status> {
    if request.command.is_empty() && !request.attach_only {
        let reason = "the command is empty: give at least a program".to_owned();
        let frame = ExecLog {
            exit_code: 1,
            done: true,
            reason,
            ..ExecLog::default()
        };
        return Ok(stream::iter([Ok(frame)]).boxed());
    }
    let (background, offsets) = (
        request.background,
        [request.stdout_offset, request.stderr_offset],
    );
    let owned = request.key.is_empty() && !background;
    let run = find_or_start(agent, request).await?;
    let guard = owned.then(|| StopOnDrop(run.clone()));
    let following = Following::new(run, offsets, background, guard);
    Ok(stream::unfold(following, |mut following| async {
        let frame = following.next().await?;
        Some((frame, following))
    })
    .boxed())
}

async fn find_or_start(agent: &Arc<Agent>, request: ExecRequest) -> Result<Run, Status> {
    let key = match request.key.as_str() {
        "" => agent.next_key(),
        key => Key::new(key).map_err(|error| Status::invalid_argument(error.to_string()))?,
    };
    if request.attach_only {
        let found = agent.supervisor.find(&key).await.map_err(broken)?;
        return found.ok_or_else(|| Status::not_found(format!("no run has the key {key}")));
    }
    let beyond = request.log.then_some(request.log_beyond);
    let launch = launch(agent, request)?;
    let run = agent.supervisor.start(key, launch).await.map_err(refused)?;
    if let Some(beyond) = beyond {
        agent.log.tell(&run, beyond);
    }
    Ok(run)
}

fn launch(agent: &Agent, request: ExecRequest) -> Result<Launch, Status> {
    if request.input.len() > LARGEST_INPUT {
        let most = format!(
            "a command's input is limited to {LARGEST_INPUT} bytes: write it to a file instead"
        );
        return Err(Status::invalid_argument(most));
    }
    let mut launch = Launch::new(request.command);
    launch.env = agent.environment.with(request.env);
    launch.cwd = Some(agent.directory(&request.working_dir));
    launch.timeout = timeout(request.timeout_millis, request.timeout_seconds);
    if let Some(grace) = positive(request.grace_millis) {
        launch.grace = Duration::from_millis(grace);
    }
    if !request.input.is_empty() {
        launch.input = Input::Bytes(request.input);
    }
    if request.key.is_empty() && !request.background {
        launch.memory = Memory::Passing;
    }
    Ok(launch)
}

fn timeout(millis: i64, seconds: i32) -> Option<Duration> {
    positive(millis)
        .map(Duration::from_millis)
        .or_else(|| positive(seconds.into()).map(Duration::from_secs))
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

fn refused(error: StartError) -> Status {
    let message = error.to_string();
    match error {
        StartError::Unrunnable(_) => Status::invalid_argument(message),
        StartError::KeyTaken { .. } => Status::already_exists(message),
        StartError::Busy(_) => Status::resource_exhausted(message),
        StartError::Closed => Status::unavailable(message),
        StartError::System(_) => Status::internal(message),
    }
}

/// Stops a run that nobody can ask for again when its only listener goes.
struct StopOnDrop(Run);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if self.0.outcome().is_none() {
            self.0.kill();
        }
    }
}

/// A run being told to one client, frame by frame.
struct Following {
    run: Run,
    readers: [Option<Reader>; 2],
    carried: [Carried; 2],
    stage: Stage,
    background: bool,
    _guard: Option<StopOnDrop>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Output,
    Words,
    Last,
    Over,
}

impl Following {
    fn new(run: Run, offsets: [u64; 2], background: bool, guard: Option<StopOnDrop>) -> Self {
        let reader = |stream, offset| (!background).then(|| run.output(stream, offset));
        let readers = [
            reader(Stream::Stdout, offsets[0]),
            reader(Stream::Stderr, offsets[1]),
        ];
        Self {
            run,
            readers,
            carried: Default::default(),
            stage: Stage::Starting,
            background,
            _guard: guard,
        }
    }

    async fn next(&mut self) -> Option<Result<ExecLog, Status>> {
        loop {
            match self.stage {
                Stage::Starting => {
                    self.stage = Stage::Output;
                    let pid = self.run.started().await.unwrap_or_default();
                    let left = self.background && self.run.outcome().is_none();
                    if left {
                        self.stage = Stage::Over;
                    }
                    return Some(Ok(ExecLog {
                        pid,
                        done: left,
                        ..ExecLog::default()
                    }));
                }
                Stage::Output => match self.output().await {
                    Ok(Some(frame)) => return Some(Ok(frame)),
                    Ok(None) => self.stage = Stage::Words,
                    Err(error) => {
                        self.stage = Stage::Over;
                        return Some(Err(broken(error)));
                    }
                },
                Stage::Words => {
                    self.stage = Stage::Last;
                    if let Some(frame) = self.words().await {
                        return Some(Ok(frame));
                    }
                }
                Stage::Last => {
                    self.stage = Stage::Over;
                    return Some(match self.run.ended().await {
                        Some(outcome) => Ok(last(&outcome)),
                        None => Err(Status::unavailable(
                            "the agent is going: attach again with the same key",
                        )),
                    });
                }
                Stage::Over => return None,
            }
        }
    }

    /// The next piece of output of either stream.
    async fn output(&mut self) -> std::io::Result<Option<ExecLog>> {
        loop {
            let [out, err] = &mut self.readers;
            let (index, chunk) = tokio::select! {
                chunk = next_of(out), if out.is_some() => (0, chunk?),
                chunk = next_of(err), if err.is_some() => (1, chunk?),
                else => return Ok(None),
            };
            let frame = match chunk {
                Some(Chunk::Bytes(bytes)) => self.told(index, bytes),
                Some(Chunk::Missing(bytes)) => Some(missing(index, bytes)),
                None => {
                    self.readers[index] = None;
                    let rest = self.carried[index].rest();
                    (!rest.is_empty()).then(|| frame(index, rest))
                }
            };
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }

    /// Makes a frame of some bytes, without tearing a character in two.
    fn told(&mut self, index: usize, bytes: Bytes) -> Option<ExecLog> {
        let bytes = self.carried[index].whole(bytes);
        (!bytes.is_empty()).then(|| frame(index, bytes))
    }

    /// For those who only look at standard error: why nothing ran.
    async fn words(&self) -> Option<ExecLog> {
        let outcome = self.run.ended().await?;
        let failed = matches!(outcome.end, End::NotFound | End::NotStartable | End::Lost);
        failed.then(|| ExecLog {
            stderr: format!("{}\n", outcome.reason),
            ..ExecLog::default()
        })
    }
}

async fn next_of(reader: &mut Option<Reader>) -> std::io::Result<Option<Chunk>> {
    match reader {
        Some(reader) => reader.next().await,
        None => Ok(None),
    }
}

/// A frame with text where it is text, and with the very bytes where it is not.
fn frame(index: usize, bytes: Bytes) -> ExecLog {
    let (text, exact) = text::split(bytes);
    match index {
        0 => ExecLog {
            stdout: text,
            stdout_bytes: exact,
            ..ExecLog::default()
        },
        _ => ExecLog {
            stderr: text,
            stderr_bytes: exact,
            ..ExecLog::default()
        },
    }
}

fn missing(index: usize, bytes: u64) -> ExecLog {
    match index {
        0 => ExecLog {
            stdout_missing: bytes,
            ..ExecLog::default()
        },
        _ => ExecLog {
            stderr_missing: bytes,
            ..ExecLog::default()
        },
    }
}

fn last(outcome: &Outcome) -> ExecLog {
    let took = outcome.started.duration_until(outcome.finished);
    let cpu = outcome.usage.user + outcome.usage.system;
    ExecLog {
        exit_code: outcome.end.code(),
        done: true,
        reason: outcome.reason.clone(),
        signal: outcome.end.signal().unwrap_or_default(),
        timed_out: matches!(outcome.end, End::TimedOut { .. }),
        duration_millis: i64::try_from(took.as_millis()).unwrap_or(i64::MAX).max(0),
        cpu_millis: i64::try_from(cpu.as_millis()).unwrap_or(i64::MAX),
        peak_memory_bytes: outcome.usage.peak_memory,
        read_bytes: outcome.usage.read,
        written_bytes: outcome.usage.written,
        ..ExecLog::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_travels_as_text_and_the_rest_as_it_is() {
        assert_eq!(frame(0, Bytes::from("ä")).stdout, "ä");
        let torn = frame(1, Bytes::from_static(b"a\xffb"));
        assert_eq!(
            (torn.stderr.as_str(), &torn.stderr_bytes[..]),
            ("a\u{fffd}b", &b"a\xffb"[..])
        );
    }

    #[test]
    fn milliseconds_win_over_seconds_and_nothing_means_no_limit() {
        assert_eq!(timeout(0, 0), None);
        assert_eq!(timeout(-5, 2), Some(Duration::from_secs(2)));
        assert_eq!(timeout(1500, 2), Some(Duration::from_millis(1500)));
    }
}
