//! Executions under way: each is carried out by a task of the gateway's own, whoever waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sandlot_decide::backoff::Backoff;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::{
    gateway::Gateway,
    ledger::{Execution, LedgerError, Session},
};

/// How many executions one gateway carries out at the same time.
const MOST: usize = 4096;
/// How often the database is asked for the end of an execution that another gateway carries out.
const ELSEWHERE: Duration = Duration::from_millis(50);
/// How long an agent is waited for to call something off.
const CALL_OFF: Duration = Duration::from_secs(1);
/// Waits between attempts to reach an agent, or the database.
pub(crate) const AGAIN: Backoff = Backoff {
    first: Duration::from_millis(20),
    longest: Duration::from_secs(1),
};

/// The executions that this gateway carries out.
#[derive(Default)]
pub(crate) struct Runs(Mutex<HashMap<String, watch::Sender<Option<Arc<Execution>>>>>);

impl Runs {
    /// Makes room for one more; no if there is none, or it is there already.
    fn begin(&self, id: &str) -> bool {
        let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if going.len() >= MOST || going.contains_key(id) {
            return false;
        }
        going.insert(id.to_owned(), watch::Sender::new(None));
        true
    }

    /// What one waits on for its end.
    fn end_of(&self, id: &str) -> Option<watch::Receiver<Option<Arc<Execution>>>> {
        let going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        going.get(id).map(watch::Sender::subscribe)
    }

    fn end(&self, execution: Execution) {
        let ended = {
            let mut going = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            going.remove(&execution.id)
        };
        if let Some(ended) = ended {
            ended.send_replace(Some(Arc::new(execution)));
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Gateway {
    /// Carries out a new execution beside the request, and notes it meanwhile. Comes back once it
    /// is noted.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        execution: &Execution,
        session: &Session,
    ) -> Result<(), SubmitError> {
        if !self.runs.begin(&execution.id) {
            return Err(SubmitError::Busy);
        }
        let (gateway, told) = (self.clone(), oneshot::channel());
        let (execution, session) = (execution.clone(), session.clone());
        self.tasks
            .spawn(async move { gateway.carry_new(execution, session, told.0).await });
        // Nobody says so where this gateway ends at this very moment: the next one takes it.
        told.1.await.unwrap_or(Err(SubmitError::Busy))
    }

    /// Carries out an execution while it is being noted. Until it is, nobody was told of it, and
    /// where it cannot be, what was begun is called off again.
    async fn carry_new(
        self: &Arc<Self>,
        execution: Execution,
        session: Session,
        tell: oneshot::Sender<Result<(), SubmitError>>,
    ) {
        let noting = async {
            let noted = self.ledger.add_execution(&execution).await;
            let done = noted.as_ref().map(drop).map_err(drop);
            // Whoever asked may be gone; the execution goes on.
            let _ = tell.send(noted.map_err(SubmitError::from));
            done
        };
        let carrying = async { Ok(self.until_over(execution.clone(), session.clone()).await) };
        match tokio::try_join!(noting, carrying) {
            Ok(((), ended)) => self.note_end(ended).await,
            Err(()) => {
                self.call_off(&session, &execution.key()).await;
                self.runs.end(execution);
            }
        }
    }

    /// Ends what may have been begun of an execution that there is not to be.
    async fn call_off(&self, session: &Session, key: &str) {
        let claim = &session.facts.claim;
        let stopped = match self.executors.of(&self.claims, claim, CALL_OFF).await {
            Ok(executor) => executor.stop(key).await.map_err(|why| why.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = stopped {
            // Most often it was not begun; what was ends with its time limit, or its pod.
            tracing::debug!(why, session = session.id, key, "nothing was called off");
        }
    }

    /// Takes over an execution that another gateway left.
    pub(crate) fn take_over(self: &Arc<Self>, execution: Execution, session: Session) {
        if self.runs.begin(&execution.id) {
            let gateway = self.clone();
            self.tasks.spawn(async move {
                let ended = gateway.until_over(execution, session).await;
                gateway.note_end(ended).await;
            });
        }
    }

    /// Carries out an execution to its end, unless this gateway ends first: then it goes on in
    /// its pod, and whoever comes next attaches to it.
    async fn until_over(&self, execution: Execution, session: Session) -> Option<Execution> {
        tokio::select! {
            ended = self.carry_out(execution, session) => Some(ended),
            () = self.cancel.cancelled() => None,
        }
    }

    async fn note_end(&self, ended: Option<Execution>) {
        let Some(ended) = ended else { return };
        let id = ended.id.clone();
        if let Err(error) = self.conclude(ended).await {
            tracing::error!(%error, execution = id, "how it ended could not be noted");
        }
    }

    /// Waits for the end of an execution that this gateway carries out.
    pub(crate) async fn ended(&self, id: &str, patience: Duration) -> Option<Arc<Execution>> {
        let mut end = self.runs.end_of(id)?;
        let ended = end.wait_for(Option::is_some);
        let ended = tokio::time::timeout(patience, ended).await.ok()?.ok()?;
        ended.clone()
    }

    /// Waits for the end of an execution, whoever carries it out; the execution as it is then, or
    /// as it is when patience ends. Nothing if there is none.
    pub(crate) async fn over(
        &self,
        id: &str,
        patience: Duration,
    ) -> Result<Option<Execution>, LedgerError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = self.ended(id, left).await;
            let execution = match ended {
                Some(ended) => Some(Execution::clone(&ended)),
                None => self.ledger.execution(id).await?,
            };
            let is_over = execution
                .as_ref()
                .is_none_or(|found| found.status.is_over());
            if is_over || Instant::now() >= deadline || self.cancel.is_cancelled() {
                return Ok(execution);
            }
            tokio::time::sleep(ELSEWHERE).await;
        }
    }

    /// Notes how an execution ended, then tells who waits. A database that is away is waited
    /// for; one that was noted as over already stays so.
    pub(crate) async fn conclude(&self, execution: Execution) -> Result<(), LedgerError> {
        let mut failures = 0;
        let noted = loop {
            match self.ledger.note_execution(&execution).await {
                Ok(noted) => break noted,
                Err(error @ LedgerError::Database(_)) => {
                    tracing::warn!(%error, execution = execution.id, "noting its end; trying again");
                    failures += 1;
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN.after(failures)) => {}
                        () = self.cancel.cancelled() => return Err(error),
                    }
                }
                Err(error) => {
                    self.runs.end(execution);
                    return Err(error);
                }
            }
        };
        if noted {
            self.metrics
                .execution_ended(execution.status, took(&execution));
        }
        let told = match noted {
            true => execution,
            // It was over before, and what was said then holds.
            false => match self.ledger.execution(&execution.id).await {
                Ok(Some(earlier)) => earlier,
                Ok(None) | Err(_) => execution,
            },
        };
        self.runs.end(told);
        Ok(())
    }
}

/// Why an execution is not taken on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    #[error("this gateway carries out as much as it can: try again in a moment")]
    Busy,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// When an execution is over: for how long it took in all.
pub(crate) fn took(execution: &Execution) -> Option<f64> {
    if let Some(metrics) = &execution.outcome.metrics {
        return Some(metrics.duration_ms as f64 / 1000.0);
    }
    let (started, completed) = (execution.outcome.started?, execution.outcome.completed?);
    Some(completed.duration_since(started).as_secs_f64().max(0.0))
}
