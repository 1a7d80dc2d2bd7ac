//! A session is over: what runs in it ends, and its pod and its files are given back.

use sandlot_decide::session::{ExecutionStatus, SessionStatus};

use crate::{
    gateway::Gateway,
    ledger::{Execution, LedgerError, Session},
    moment::now,
    open::OpenError,
};

impl Gateway {
    /// Ends a session that cannot come to run.
    pub(crate) async fn fail(&self, session: &Session, why: &str) {
        let noted = self.end_session(&session.id, SessionStatus::Failed, why);
        match noted.await {
            Ok(_) => self.give_back(session).await,
            // The next sweep sees to it.
            Err(error) => {
                tracing::warn!(%error, session = session.id, "that it failed could not be noted");
            }
        }
    }

    /// Notes that a session is over. Says whether it was not before.
    pub(crate) async fn end_session(
        &self,
        id: &str,
        status: SessionStatus,
        why: &str,
    ) -> Result<bool, LedgerError> {
        let changed = self.ledger.change_session(id, |session| {
            if !session.status.may_become(status) {
                return false;
            }
            session.status = status;
            session.facts.completed = Some(now());
            session.facts.reason = why.to_owned();
            true
        });
        let has_ended = changed.await?.is_some_and(|(_, changed)| changed);
        if has_ended {
            self.metrics.session_is(status);
        }
        Ok(has_ended)
    }

    /// Gives a session's pod back. What fails here the next sweep does again.
    pub(crate) async fn give_back(&self, session: &Session) {
        let claim = &session.facts.claim;
        self.executors.forget(claim);
        if let Err(error) = self.claims.release(claim).await {
            tracing::warn!(%error, session = session.id, "its pod could not be given back yet");
        }
    }

    /// Ends a session: no code runs in it any more, its pod and its files go, its row stays.
    pub(crate) async fn terminate(&self, session: &Session, why: &str) -> Result<(), OpenError> {
        self.end_session(&session.id, SessionStatus::Terminated, why)
            .await?;
        let why = format!("session {} was terminated: {why}", session.id);
        self.crash_all(&session.id, &why).await?;
        self.give_back(session).await;
        self.files.clear(&session.id).await?;
        Ok(())
    }

    /// Ends what is still going in a session, as far as it is known.
    pub(crate) async fn crash_all(&self, session: &str, why: &str) -> Result<(), LedgerError> {
        for execution in self.ledger.open_executions(session).await? {
            self.crash(execution, why).await?;
        }
        Ok(())
    }

    /// Ends an execution that nobody can say more about.
    pub(crate) async fn crash(
        &self,
        mut execution: Execution,
        why: &str,
    ) -> Result<(), LedgerError> {
        execution.status = ExecutionStatus::Crashed;
        execution.outcome.error = Some(why.to_owned());
        execution.outcome.completed = Some(now());
        self.conclude(execution).await
    }
}
