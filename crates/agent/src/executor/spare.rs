//! An interpreter that was started before there was code for it, so that the code need not wait
//! until it is up. One waits at a time; it runs one piece of code and no other. Where nobody
//! asked for one, one waits for a moment behind Python code: often more of it follows.
//!
//! To the supervisor it is a run like any other, under a key of its own. Which code it was given
//! is written down before it is given any: asking for that code again finds this run.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use nix::{fcntl::OFlag, unistd::pipe2};
use sandlot_supervisor::{End, Input, Key, Launch, Outcome, Run};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{program, run::GRACE};
use crate::agent::Agent;

/// How long an interpreter waits that nobody asked for.
const LINGER: Duration = Duration::from_secs(10);
/// Behind code that takes longer than this, the next one need not wait for its end.
const BEHIND: Duration = Duration::from_secs(1);
/// So many notes of who was given what are kept, as many as results.
const KEPT: usize = 256;

type Environment = Vec<(OsString, OsString)>;

/// The interpreter that waits, and who was given one before.
pub(super) struct Spares {
    agent: Arc<Agent>,
    folder: PathBuf,
    waiting: Mutex<Option<Spare>>,
}

struct Spare {
    run: Run,
    env: Environment,
    /// Where it reads its code from.
    input: fs::File,
}

/// Code that was given to an interpreter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Given {
    /// The interpreter's own key.
    run: Key,
    /// When it got its code; what it did before is not the code's.
    pub(super) at: Timestamp,
    /// When its time is up.
    until: Option<Timestamp>,
}

impl Given {
    /// Whether it was ended because its time was up.
    pub(super) fn is_late(&self, outcome: &Outcome) -> bool {
        let was_stopped = matches!(outcome.end, End::Stopped { .. });
        was_stopped && self.until.is_some_and(|until| outcome.finished >= until)
    }

    /// How long the code may run.
    pub(super) fn limit(&self) -> Option<SignedDuration> {
        self.until.map(|until| until.duration_since(self.at))
    }
}

impl Spares {
    pub(super) fn new(agent: Arc<Agent>, folder: PathBuf) -> Self {
        Self {
            agent,
            folder,
            waiting: Mutex::default(),
        }
    }

    /// Sees to it that an interpreter waits for code with this environment. Where none can be
    /// started, code starts its own and says why that fails.
    pub(super) async fn prepare(self: &Arc<Self>, env: Environment, stays: bool) {
        let mut waiting = self.waiting.lock().await;
        if waiting.as_ref().is_some_and(|spare| spare.fits(&env)) {
            return;
        }
        if let Some(other) = waiting.take() {
            other.run.kill();
        }
        *waiting = self.start(env).await.ok();
        if let Some(spare) = waiting.as_ref().filter(|_| !stays) {
            let (spares, key) = (self.clone(), spare.run.key().clone());
            tokio::spawn(async move { spares.let_go_later(&key).await });
        }
    }

    /// Ends an interpreter that was not needed for a while.
    async fn let_go_later(&self, key: &Key) {
        tokio::time::sleep(LINGER).await;
        let mut waiting = self.waiting.lock().await;
        if let Some(spare) = waiting.take_if(|spare| spare.run.key() == key) {
            spare.run.kill();
        }
    }

    /// Has the next interpreter wait, once the code before it does not need the processor.
    pub(super) fn prepare_behind(self: &Arc<Self>, run: Run, env: Environment, stays: bool) {
        let spares = self.clone();
        tokio::spawn(async move {
            // Whether it is over by then does not matter.
            let _ = tokio::time::timeout(BEHIND, run.ended()).await;
            spares.prepare(env, stays).await;
        });
    }

    async fn start(&self, env: Environment) -> io::Result<Spare> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        let mut launch = Launch::new(program::waiting());
        launch.env.clone_from(&env);
        launch.input = Input::From(Arc::new(reading));
        launch.grace = GRACE;
        let key = self.agent.next_key();
        let run = self.agent.supervisor.start(key, launch).await;
        Ok(Spare {
            run: run.map_err(io::Error::other)?,
            env,
            input: writing.into(),
        })
    }

    /// Gives code to the interpreter that waits, if there is one for this environment, and has
    /// the next one started.
    pub(super) async fn give(
        self: &Arc<Self>,
        key: &Key,
        env: Environment,
        sent: Vec<u8>,
        timeout: Option<Duration>,
        stays: bool,
    ) -> io::Result<Option<(Run, Given)>> {
        let fitting = self.waiting.lock().await.take_if(|spare| spare.fits(&env));
        let Some(spare) = fitting else {
            return Ok(None);
        };
        let at = Timestamp::now();
        let given = Given {
            run: spare.run.key().clone(),
            at,
            until: timeout.and_then(|timeout| at.checked_add(timeout).ok()),
        };
        let (folder, name, note) = (self.folder.clone(), key.as_str().to_owned(), given.clone());
        let Spare { run, mut input, .. } = spare;
        let giving = tokio::task::spawn_blocking(move || {
            write_down(&folder, &name, &note)?;
            input.write_all(&sent)
        });
        giving.await.map_err(io::Error::other)??;
        watch_clock(run.clone(), &given);
        self.prepare_behind(run.clone(), env, stays);
        Ok(Some((run, given)))
    }

    /// The interpreter that this code was given to, if it was.
    pub(super) async fn given(&self, key: &Key) -> io::Result<Option<(Run, Given)>> {
        let place = self.folder.join(key.as_str());
        let read = tokio::task::spawn_blocking(move || fs::read(place)).await;
        let note = match read.map_err(io::Error::other)? {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let given: Given = serde_json::from_slice(&note)?;
        let run = self.agent.supervisor.find(&given.run).await?;
        Ok(run.map(|run| {
            // An agent that came later has its own clock for it.
            watch_clock(run.clone(), &given);
            (run, given)
        }))
    }
}

impl Spare {
    /// Whether it still waits, for code with this environment.
    fn fits(&self, env: &Environment) -> bool {
        self.env == *env && self.run.outcome().is_none()
    }
}

/// Stops code whose time is up. The supervisor's own clock began when there was no code yet.
fn watch_clock(run: Run, given: &Given) {
    let Some(until) = given.until else { return };
    if run.outcome().is_some() {
        return;
    }
    let left = until.duration_since(Timestamp::now());
    let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
    tokio::spawn(async move {
        // It also ends when the run does, or its supervisor.
        if tokio::time::timeout(left, run.ended()).await.is_err() {
            run.stop();
        }
    });
}

/// Notes who was given what; the oldest notes go.
fn write_down(folder: &std::path::Path, name: &str, given: &Given) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(format!(".{name}"));
    fs::write(&unfinished, serde_json::to_vec(given)?)?;
    fs::rename(&unfinished, folder.join(name))?;
    let notes: Vec<_> = fs::read_dir(folder)?.flatten().collect();
    if notes.len() <= KEPT + KEPT / 8 {
        return Ok(());
    }
    let dated = |note: &fs::DirEntry| Some((note.metadata().ok()?.modified().ok()?, note.path()));
    let mut notes: Vec<_> = notes.iter().filter_map(dated).collect();
    notes.sort();
    for (_, note) in notes.iter().take(notes.len().saturating_sub(KEPT)) {
        fs::remove_file(note)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(limit: Option<SignedDuration>) -> Given {
        let at = Timestamp::UNIX_EPOCH;
        Given {
            run: Key::new("spare").unwrap(),
            at,
            until: limit.map(|limit| at + limit),
        }
    }

    fn stopped(after: SignedDuration) -> Outcome {
        Outcome {
            end: End::Stopped { killed: true },
            reason: String::new(),
            usage: Default::default(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH + after,
        }
    }

    #[test]
    fn only_what_was_stopped_after_its_time_ran_out_of_it() {
        let second = SignedDuration::from_secs(1);
        assert!(given(Some(second)).is_late(&stopped(second * 2)));
        assert!(!given(Some(second * 3)).is_late(&stopped(second * 2)));
        assert!(!given(None).is_late(&stopped(second)));
    }

    #[test]
    fn old_notes_go() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..KEPT * 2 {
            write_down(folder.path(), &number.to_string(), &given(None)).unwrap();
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert!((KEPT..=KEPT + KEPT / 8).contains(&left), "{left}");
    }
}
