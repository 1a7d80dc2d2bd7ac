//! Executions under way: each is carried out by a task of the gateway's own, whoever waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sandlot_decide::backoff::Backoff;
use tokio::{sync::watch, time::Instant};

use crate::{
    gateway::Gateway,
    ledger::{Execution, LedgerError, Session},
};

/// How many executions one gateway carries out at the same time.
const MOST: usize = 4096;
/// How often the database is asked for the end of an execution that another gateway carries out.
const ELSEWHERE: Duration = Duration::from_millis(50);
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
    /// Notes an execution and carries it out beside the request. Comes back once it is noted.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        execution: &Execution,
        session: &Session,
    ) -> Result<(), SubmitError> {
        if !self.runs.begin(&execution.id) {
            return Err(SubmitError::Busy);
        }
        if let Err(error) = self.ledger.add_execution(execution).await {
            self.runs.end(execution.clone());
            return Err(error.into());
        }
        self.carry_on(execution.clone(), session.clone());
        Ok(())
    }

    /// Takes over an execution that another gateway left.
    pub(crate) fn take_over(self: &Arc<Self>, execution: Execution, session: Session) {
        if self.runs.begin(&execution.id) {
            self.carry_on(execution, session);
        }
    }

    fn carry_on(self: &Arc<Self>, execution: Execution, session: Session) {
        let gateway = self.clone();
        self.tasks.spawn(async move {
            let id = execution.id.clone();
            tokio::select! {
                ended = gateway.carry_out(execution, session) => {
                    if let Err(error) = gateway.conclude(ended).await {
                        tracing::error!(%error, execution = id, "how it ended could not be noted");
                    }
                }
                // It goes on in its pod; whoever comes next attaches to it.
                () = gateway.cancel.cancelled() => {}
            }
        });
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
