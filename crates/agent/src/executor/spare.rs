//! An interpreter that was started before there was code for it, so that the code need not wait
//! until it is up. One waits at a time; it runs one piece of code and no other. Where nobody
//! asked for one that stays, one waits for a moment in a new session and behind Python code: often
//! more of it follows. In a warm pod one waits for the session to come, where its template wants
//! that. One that waited while something came that its start would have found starts anew by itself
//! (`python_rarely.py`).
//!
//! To the supervisor it is a run like any other, under a key of its own. Which code it was given
//! is written down before it is given any: asking for that code again finds this run.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use nix::{fcntl::OFlag, unistd::pipe2};
use sandlot_supervisor::{Input, Key, Launch, Run};
use tokio::sync::Mutex;

use super::{
    given::{Given, Notes},
    program,
    run::GRACE,
    told::{Environment, still_to_tell},
};
use crate::agent::Agent;

/// How long an interpreter waits that need not stay.
const LINGER: Duration = Duration::from_secs(10);
/// Behind code that takes longer than this, the next one need not wait for its end.
const BEHIND: Duration = Duration::from_secs(1);

/// The interpreter that waits, and who was given one before.
pub(super) struct Spares {
    agent: Arc<Agent>,
    notes: Arc<std::sync::Mutex<Notes>>,
    waiting: Mutex<Option<Spare>>,
}

struct Spare {
    run: Run,
    env: Environment,
    /// Whether it goes after a moment.
    lingers: bool,
    /// Where it reads its code from.
    input: fs::File,
}

impl Spares {
    /// None yet; who was given what is noted at `notes`.
    pub(super) fn new(agent: Arc<Agent>, notes: PathBuf) -> Self {
        Self {
            agent,
            notes: Arc::new(Notes::open(notes).into()),
            waiting: Mutex::default(),
        }
    }

    /// Sees to it that an interpreter waits for code with this environment. Where none can be
    /// started, code starts its own and says why that fails.
    pub(super) async fn prepare(self: &Arc<Self>, env: Environment, stays: bool) {
        let mut waiting = self.waiting.lock().await;
        let fits = |spare: &Spare| spare.still_to_tell(&env).is_some();
        if !waiting.as_ref().is_some_and(fits) {
            if let Some(other) = waiting.take() {
                other.run.kill();
            }
            *waiting = self.start(env).await.ok();
        }
        if let Some(spare) = waiting.as_mut().filter(|spare| !stays && !spare.lingers) {
            spare.lingers = true;
            let (spares, key) = (self.clone(), spare.run.key().clone());
            tokio::spawn(async move { spares.let_go_later(&key).await });
        }
    }

    /// Has an interpreter wait before it is known for whom, until somebody prepares for code.
    pub(super) async fn prepare_ahead(&self) {
        let mut waiting = self.waiting.lock().await;
        if waiting.is_some() {
            return;
        }
        match self.start(self.agent.environment.plain()).await {
            Ok(spare) => *waiting = Some(spare),
            Err(error) => eprintln!("sandlot-agent: no interpreter waits: {error}"),
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
            lingers: false,
            input: writing.into(),
        })
    }

    /// Gives code to the interpreter that waits, if there is one for this environment, and has
    /// the next one started. `sent` makes what it is sent of what it is to be told.
    pub(super) async fn give(
        self: &Arc<Self>,
        key: &Key,
        env: Environment,
        sent: impl FnOnce(&Environment) -> Vec<u8>,
        timeout: Option<Duration>,
        stays: bool,
    ) -> io::Result<Option<(Run, Given)>> {
        let Some((spare, told)) = self.take(&env).await else {
            return Ok(None);
        };
        let sent = sent(&told);
        let at = Timestamp::now();
        let given = Given {
            run: spare.run.key().clone(),
            at,
            until: timeout.and_then(|timeout| at.checked_add(timeout).ok()),
        };
        let (notes, key, note) = (self.notes.clone(), key.clone(), given.clone());
        let Spare { run, mut input, .. } = spare;
        let giving = tokio::task::spawn_blocking(move || {
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.keep(key.as_str(), note)?;
            drop(notes);
            input.write_all(&sent)
        });
        giving.await.map_err(io::Error::other)??;
        watch_clock(run.clone(), &given);
        self.prepare_behind(run.clone(), env, stays);
        Ok(Some((run, given)))
    }

    /// The interpreter that waits, if it is one for this environment, and what it is to be told.
    async fn take(&self, env: &Environment) -> Option<(Spare, Environment)> {
        let mut waiting = self.waiting.lock().await;
        let told = waiting.as_ref()?.still_to_tell(env)?;
        Some((waiting.take()?, told))
    }

    /// The interpreter that this code was given to, if it was.
    pub(super) async fn given(&self, key: &Key) -> io::Result<Option<(Run, Given)>> {
        let known = {
            let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.get(key.as_str())
        };
        let Some(given) = known else {
            return Ok(None);
        };
        let run = self.agent.supervisor.find(&given.run).await?;
        Ok(run.map(|run| {
            // An agent that came later has its own clock for it.
            watch_clock(run.clone(), &given);
            (run, given)
        }))
    }
}

impl Spare {
    /// What it is to be told for code with this environment, if it still waits for such code.
    fn still_to_tell(&self, env: &Environment) -> Option<Environment> {
        match self.run.outcome() {
            None => still_to_tell(&self.env, env),
            Some(_) => None,
        }
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
