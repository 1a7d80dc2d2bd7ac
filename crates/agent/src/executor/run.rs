//! One execution, from its code to its end, told to one caller event by event.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use sandlot_api::executor::{Ended, RunEvent, RunRequest, StopRequest, Stopped};
use sandlot_supervisor::{
    Chunk, End, Input, Key, Launch, Outcome, Reader, Run, StartError, Stream,
};
use tonic::Status;

use super::{
    ExecutorDoor, Results,
    changes::Snapshot,
    given::Given,
    headcount::Headcount,
    program::{self, Language},
    shell,
    spare::Spares,
};
use crate::agent::Agent;

/// How long code out of time has between TERM and KILL.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// The exit code of what ran into its time limit, as the supervisor has it.
const LATE: i32 = 124;

/// A run, and what is known of an interpreter that was given its code.
type Found = (Run, Option<Given>);

/// Runs the code, or follows the run that has its key.
pub(super) async fn run(
    door: &ExecutorDoor,
    request: RunRequest,
) -> Result<BoxStream<'static, Result<RunEvent, Status>>, Status> {
    let key = key(&request.key)?;
    let most_processes = request.max_processes;
    let workspace = door.agent.grounds.workspace.clone();
    // Most runs are new: what the workspace is like before one is looked at meanwhile.
    let before = (!request.attach_only)
        .then(|| tokio::task::spawn_blocking(move || Snapshot::of(&workspace)));
    let found = find(&door.agent, &door.spares, &key).await?;
    let (run, given) = match (found, before) {
        (Some(found), _) => found,
        (None, Some(before)) => {
            let before = before.await.map_err(broken)?;
            // Whoever asked may leave in the middle of it, and what has begun is still looked at.
            let beginning = begin(door.clone(), key.clone(), request, before);
            tokio::spawn(beginning).await.map_err(broken)??
        }
        (None, None) => {
            return Err(Status::not_found(format!("no run has the key {key}")));
        }
    };
    door.headcount.watch(run.clone(), most_processes);
    let following = Following {
        agent: door.agent.clone(),
        results: door.results.clone(),
        headcount: door.headcount.clone(),
        readers: [Stream::Stdout, Stream::Stderr].map(|stream| Some(run.output(stream, 0))),
        key,
        run,
        given,
        over: false,
    };
    Ok(stream::unfold(following, |mut following| async {
        let event = following.next().await?;
        Some((event, following))
    })
    .boxed())
}

/// Ends a run with everything it started; one that has yet to begin ends when it does.
pub(super) async fn stop(door: &ExecutorDoor, request: StopRequest) -> Result<Stopped, Status> {
    let key = key(&request.key)?;
    // Noted first: one that begins at this moment is found here, or finds this.
    door.called_off.note(&key);
    match find(&door.agent, &door.spares, &key).await? {
        Some((run, _)) => {
            run.stop();
            Ok(Stopped {})
        }
        None => Err(Status::not_found(format!("no run has the key {key}"))),
    }
}

async fn find(
    agent: &Arc<Agent>,
    spares: &Arc<Spares>,
    key: &Key,
) -> Result<Option<Found>, Status> {
    if let Some((run, given)) = spares.given(key).await.map_err(broken)? {
        return Ok(Some((run, Some(given))));
    }
    let found = agent.supervisor.find(key).await.map_err(broken)?;
    Ok(found.map(|run| (run, None)))
}

/// A key that is also the name of a file.
fn key(text: &str) -> Result<Key, Status> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.is_empty() || text.len() > 128 || !text.chars().all(is_plain) {
        return Err(Status::invalid_argument(
            "a key has 1 to 128 letters, digits, '-' and '_'",
        ));
    }
    Key::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Starts a run, and ends it again if it was called off on its way here.
async fn begin(
    door: ExecutorDoor,
    key: Key,
    request: RunRequest,
    before: Snapshot,
) -> Result<Found, Status> {
    let found = start(&door, key.clone(), request, before).await?;
    if door.called_off.has(&key) {
        found.0.stop();
    }
    Ok(found)
}

async fn start(
    door: &ExecutorDoor,
    key: Key,
    request: RunRequest,
    before: Snapshot,
) -> Result<Found, Status> {
    let ExecutorDoor {
        agent,
        results,
        spares,
        ..
    } = door;
    let language = Language::parse(&request.language).ok_or_else(|| {
        Status::invalid_argument(format!(
            "{:?} is no language: use python, javascript or shell",
            request.language
        ))
    })?;
    let directory = directory(agent, &request.working_directory)?;
    let code = match language {
        Language::Shell => shell::plain(&request.code, |script| directory.join(script).is_file()),
        _ => request.code,
    };
    let result = results.place(key.as_str());
    let env = agent.environment.with(request.env);
    let timeout = u64::try_from(request.timeout_millis)
        .ok()
        .filter(|millis| *millis > 0)
        .map(Duration::from_millis);
    results.begin(key.as_str(), before);
    if language != Language::Shell {
        // One file is given another name: no disk is waited for.
        results.make_room(key.as_str()).map_err(broken)?;
    }
    let stays = request.prestarted;
    if language == Language::Python {
        let places = (result.as_path(), directory.as_path());
        let sent = |told: &_| program::sent(&code, &request.event, places, told);
        let given = spares.give(&key, env.clone(), sent, timeout, stays).await;
        if let Some((run, given)) = given.map_err(broken)? {
            return Ok((run, Some(given)));
        }
    }
    let program = language.program(&code, &request.event, &result);
    let mut launch = Launch::new(program.argv);
    launch.env.clone_from(&env);
    launch.cwd = Some(directory);
    launch.grace = GRACE;
    launch.timeout = timeout;
    if let Some(input) = program.input {
        launch.input = Input::Bytes(input);
    }
    let started = agent.supervisor.start(key, launch).await;
    let run = started.map_err(|error| refused(&error))?;
    if language == Language::Python {
        spares.prepare_behind(run.clone(), env, stays);
    }
    Ok((run, None))
}

/// Where the code works: the workspace, or a folder below it.
fn directory(agent: &Agent, wanted: &str) -> Result<std::path::PathBuf, Status> {
    let is_plain = |part: &str| part != "..";
    if wanted.starts_with('/') || !wanted.split('/').all(is_plain) {
        return Err(Status::invalid_argument(format!(
            "{wanted:?} leads out of the workspace: name a folder inside it"
        )));
    }
    let directory = agent.directory(wanted);
    if !directory.is_dir() {
        return Err(Status::failed_precondition(format!(
            "there is no folder {wanted:?} in the workspace: upload a file into it, or make it first"
        )));
    }
    Ok(directory)
}

struct Following {
    agent: Arc<Agent>,
    results: Arc<Results>,
    headcount: Arc<Headcount>,
    key: Key,
    run: Run,
    given: Option<Given>,
    readers: [Option<Reader>; 2],
    over: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Result<RunEvent, Status>> {
        if self.over {
            return None;
        }
        match self.output().await {
            Ok(Some(event)) => return Some(Ok(event)),
            Ok(None) => {}
            Err(error) => {
                self.over = true;
                return Some(Err(broken(error)));
            }
        }
        self.over = true;
        let Some(outcome) = self.run.ended().await else {
            return Some(Err(Status::unavailable(
                "the agent is going: ask again with the same key",
            )));
        };
        let (results, key, given) = (self.results.clone(), self.key.clone(), self.given.clone());
        let workspace = self.agent.grounds.workspace.clone();
        let crowd = self.headcount.ended(self.run.key());
        let ending = move || {
            let mut ended = ended(&results, &key, &workspace, &outcome, given.as_ref());
            if let Some(most) = crowd {
                ended.stopped = true;
                ended.reason = format!(
                    "was killed: its session's code had more than {most} processes at once, and this \
                     had the most of them"
                );
            }
            ended
        };
        let ended = tokio::task::spawn_blocking(ending).await.map_err(broken);
        make_ahead(&self.results);
        Some(ended.map(|ended| RunEvent {
            ended: Some(ended),
            ..RunEvent::default()
        }))
    }

    /// The next piece of output of either stream.
    async fn output(&mut self) -> std::io::Result<Option<RunEvent>> {
        loop {
            let [out, err] = &mut self.readers;
            let (index, chunk) = tokio::select! {
                chunk = next_of(out), if out.is_some() => (0, chunk?),
                chunk = next_of(err), if err.is_some() => (1, chunk?),
                else => return Ok(None),
            };
            let mut event = RunEvent::default();
            match (index, chunk) {
                (0, Some(Chunk::Bytes(bytes))) => event.stdout = bytes,
                (_, Some(Chunk::Bytes(bytes))) => event.stderr = bytes,
                (0, Some(Chunk::Missing(bytes))) => event.stdout_missing = bytes,
                (_, Some(Chunk::Missing(bytes))) => event.stderr_missing = bytes,
                (_, None) => {
                    self.readers[index] = None;
                    continue;
                }
            }
            return Ok(Some(event));
        }
    }
}

/// Has a file ready for the next result. Nobody waits for that; without one the next run makes
/// its own, and says why where it cannot.
pub(super) fn make_ahead(results: &Arc<Results>) {
    let results = results.clone();
    tokio::task::spawn_blocking(move || results.make_ahead());
}

async fn next_of(reader: &mut Option<Reader>) -> std::io::Result<Option<Chunk>> {
    match reader {
        Some(reader) => reader.next().await,
        None => Ok(None),
    }
}

fn ended(
    results: &Results,
    key: &Key,
    workspace: &std::path::Path,
    outcome: &Outcome,
    given: Option<&Given>,
) -> Ended {
    let changes = results.changes(key.as_str(), workspace);
    let mut exit_code = outcome.end.code();
    let mut reason = outcome.reason.clone();
    let late = given.filter(|given| given.is_late(outcome));
    if let Some(limit) = late.and_then(Given::limit) {
        (exit_code, reason) = (LATE, format!("ran into its time limit of {limit:#}"));
    }
    let mut result = Vec::new();
    if outcome.end.is_success() {
        match results.read(key.as_str()) {
            Ok(text) => result = text.unwrap_or_default(),
            Err(why) => (exit_code, reason) = (1, why),
        }
    }
    let started = given.map_or(outcome.started, |given| given.at);
    let took = started.duration_until(outcome.finished);
    let cpu = outcome.usage.user + outcome.usage.system;
    Ended {
        exit_code,
        reason,
        timed_out: late.is_some() || matches!(outcome.end, End::TimedOut { .. }),
        stopped: late.is_none() && matches!(outcome.end, End::Stopped { .. }),
        lost: outcome.end == End::Lost,
        duration_millis: i64::try_from(took.as_millis()).unwrap_or(i64::MAX).max(0),
        cpu_millis: i64::try_from(cpu.as_millis()).unwrap_or(i64::MAX),
        peak_memory_bytes: outcome.usage.peak_memory,
        read_bytes: outcome.usage.read,
        written_bytes: outcome.usage.written,
        result: result.into(),
        changed: changes.changed,
        removed: changes.removed,
        files_left_out: changes.left_out,
    }
}

fn refused(error: &StartError) -> Status {
    let message = error.to_string();
    match error {
        StartError::Unrunnable(_) => Status::invalid_argument(message),
        StartError::KeyTaken { .. } => Status::already_exists(message),
        StartError::Busy(_) => Status::resource_exhausted(message),
        StartError::Closed => Status::unavailable(message),
        StartError::System(_) => Status::internal(message),
    }
}

fn broken(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
