//! A session's life: it gets a pod and its files, and gives both back.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use sandlot_decide::session::{ExecutionStatus, SessionStatus};

use crate::{
    executors::{Executor, ReachError},
    gateway::Gateway,
    ledger::{Execution, InstallStatus, LedgerError, Session},
    moment::now,
    pools::{Shape, object_name, pool_name},
    workspaces::{Content, Entry, FileError},
};

/// So many files are brought into a new pod.
const MOST_FILES: usize = 20_000;

/// Files as they were brought to a pod: path, size, and when they were last changed.
type Brought = BTreeSet<(String, u64, Option<Timestamp>)>;

/// Why a session does not come to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error("the Kubernetes API: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Files(#[from] FileError),
    #[error("its template {0} is gone")]
    NoTemplate(String),
    #[error("its files could not be brought to its pod: {0}")]
    Restore(String),
}

impl From<crate::claims::ClaimError> for OpenError {
    fn from(error: crate::claims::ClaimError) -> Self {
        Self::Reach(error.into())
    }
}

/// The name of a session's first claim.
pub(crate) fn first_claim(session: &str) -> String {
    format!("sandbox-{}", object_name(session))
}

impl Gateway {
    /// Brings a session from `creating` to `running`, or to `failed` with the reason. It is
    /// waited for by nobody but the session itself.
    pub(crate) async fn open_session(self: &Arc<Self>, session: Session) {
        let id = session.id.clone();
        let opened = self.give_pod(&session).await;
        let noted = match &opened {
            Ok((executor, _)) => self.note_running(&id, executor).await,
            Err(error) => self.note_failed(&id, &error.to_string()).await,
        };
        match (noted, opened) {
            // It was ended meanwhile: what it was given goes back.
            (Ok(false), _) | (Ok(true), Err(_)) => self.give_back(&session).await,
            (Ok(true), Ok((executor, brought))) => {
                // What was uploaded since the files were listed saw no running session yet.
                if let Err(error) = self.bring_rest(&id, &executor, &brought).await {
                    tracing::warn!(%error, session = id, "a file that was just uploaded is missing in its pod");
                }
                self.furnish(&id).await;
                self.prepare(&id, &executor).await;
            }
            // The session stays as it was; the next sweep sees to it.
            (Err(error), _) => {
                tracing::warn!(%error, session = id, "how it stands could not be noted");
            }
        }
    }

    /// Brings the files that came since a session's files were listed.
    async fn bring_rest(
        &self,
        id: &str,
        executor: &Executor,
        brought: &Brought,
    ) -> Result<(), OpenError> {
        let files = self.files.list(id, "", MOST_FILES).await?;
        self.bring(id, executor, &files, brought).await.map(drop)
    }

    /// Installs the packages that a session was asked for with, once it runs.
    pub(crate) async fn furnish(self: &Arc<Self>, id: &str) {
        let done = match self.ledger.session(id).await {
            Ok(Some(session)) if session.facts.install == InstallStatus::Installing => {
                self.install(&session).await.map(drop)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = done {
            tracing::warn!(%error, session = id, "its packages could not be seen to");
        }
    }

    /// Has an interpreter started ahead, where the session's template asks for that.
    async fn prepare(&self, id: &str, executor: &Executor) {
        let Ok(Some(session)) = self.ledger.session(id).await else {
            // Its first code starts its own.
            return;
        };
        if !session.facts.prestarted {
            return;
        }
        if let Err(status) = executor.prepare(self.environment(&session)).await {
            tracing::debug!(%status, session = id, "no interpreter was started ahead");
        }
    }

    /// The agent of its pod, and the files that were brought there.
    async fn give_pod(&self, session: &Session) -> Result<(Executor, Brought), OpenError> {
        let template = self.ledger.template(&session.template).await?;
        let template = template.ok_or_else(|| OpenError::NoTemplate(session.template.clone()))?;
        let wanted = Shape::of_session(&session.facts);
        let own = wanted.filter(|wanted| *wanted != Shape::of_template(&template));
        let pool = match own {
            None => pool_name(&template),
            Some(shape) => self.pools.make_own(&template, &session.id, shape).await?,
        };
        let claim = &session.facts.claim;
        let make = self.claims.make(claim, &session.id, &pool);
        match own {
            // Should somebody have removed the pool, the claim waits until it is there again.
            None if self.pools.has_kept(&template) => {
                let (kept, made) = tokio::join!(self.pools.keep(&template), make);
                kept?;
                made?;
            }
            None => {
                self.pools.keep(&template).await?;
                make.await?;
            }
            Some(_) => make.await?,
        }
        let patience = self.settings.limits.creating;
        let (executor, files) = tokio::join!(
            self.executors.of(&self.claims, claim, patience),
            self.files.list(&session.id, "", MOST_FILES),
        );
        if own.is_some() {
            // The pod is the session's own by now, or never came.
            self.pools.remove(&pool).await?;
        }
        let executor = executor?;
        let none = Brought::default();
        let brought = self.bring(&session.id, &executor, &files?, &none).await?;
        Ok((executor, brought))
    }

    /// Brings files of a session into its new pod, but those that are there as they are; all
    /// that are there then.
    async fn bring(
        &self,
        session: &str,
        executor: &Executor,
        files: &[Entry],
        there: &Brought,
    ) -> Result<Brought, OpenError> {
        let state = |file: &Entry| (file.path.clone(), file.size, file.modified);
        for file in files.iter().filter(|file| !there.contains(&state(file))) {
            let content: Content = self.files.get(session, &file.path, None).await?;
            let written = executor.write(&file.path, content).await;
            written.map_err(|status| {
                OpenError::Restore(format!("{}: {}", file.path, status.message()))
            })?;
        }
        Ok(files.iter().map(state).collect())
    }

    /// Whether it was still waited for.
    async fn note_running(&self, id: &str, executor: &Executor) -> Result<bool, LedgerError> {
        let changed = self.ledger.change_session(id, |session| {
            let recovered = session.status == SessionStatus::Running;
            if !recovered && !session.status.may_become(SessionStatus::Running) {
                return false;
            }
            session.status = SessionStatus::Running;
            session.facts.pod = executor.pod.clone();
            session.facts.pod_since = Some(now());
            session.facts.node = executor.node.clone();
            session.active = now();
            true
        });
        let Some((session, true)) = changed.await? else {
            return Ok(false);
        };
        // How long a pod that was lost took to be replaced is another matter.
        let is_first = session.facts.claim == first_claim(id);
        let took = session.active.duration_since(session.created);
        self.metrics
            .session_runs(is_first.then(|| took.as_secs_f64().max(0.0)));
        Ok(true)
    }

    async fn note_failed(&self, id: &str, why: &str) -> Result<bool, LedgerError> {
        self.end_session(id, SessionStatus::Failed, why).await
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
    async fn give_back(&self, session: &Session) {
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
