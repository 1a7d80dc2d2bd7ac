//! A session comes to run: it gets a pod, its files, its packages.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use sandlot_decide::session::SessionStatus;
use tokio::sync::oneshot;

use crate::{
    claims::ClaimError,
    executors::{Executor, ReachError},
    gateway::Gateway,
    ledger::{InstallStatus, LedgerError, Session, Template},
    moment::now,
    pools::{Shape, object_name, own_pool_name, pool_name},
    workspaces::{Content, FileError},
};

/// So many files are brought into a new pod.
const MOST_FILES: usize = 20_000;
/// How often it is seen whether more were uploaded meanwhile; what comes after the last time comes
/// to the pod a moment after its session runs.
const ROUNDS: usize = 5;
/// A pod that is warm is there within this time.
const WARM: Duration = Duration::from_millis(500);

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

impl From<ClaimError> for OpenError {
    fn from(error: ClaimError) -> Self {
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
        match self.template_of(&session).await {
            Ok(template) => {
                self.bring_up(session, &template, std::future::ready(true))
                    .await
            }
            Err(error) => self.fail(&session, &error.to_string()).await,
        }
    }

    /// The same for a new session whose note is being written; `noted` hears whether it is. A
    /// session whose id is of our own making, and so nobody else's, claims its pod meanwhile.
    pub(crate) async fn open_new_session(
        self: &Arc<Self>,
        session: Session,
        template: &Template,
        is_ours: bool,
        noted: oneshot::Receiver<bool>,
    ) {
        let sought = session.clone();
        let noted = async move {
            match noted.await {
                Ok(noted) => noted,
                // Who was to say is gone in the middle of it.
                Err(_) => self.is_noted(&sought).await,
            }
        };
        match is_ours && self.is_usual(&session, template) {
            true => self.bring_up(session, template, noted).await,
            // A claim, or a pool, made too soon would be somebody else's, or taken for nobody's.
            false if noted.await => {
                let noted = std::future::ready(true);
                self.bring_up(session, template, noted).await;
            }
            false => {}
        }
    }

    async fn is_noted(&self, session: &Session) -> bool {
        match self.ledger.session(&session.id).await {
            Ok(Some(found)) => {
                let mark = |session: &Session| (session.facts.gateway.clone(), session.created);
                mark(&found) == mark(session)
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Whether a session's pod comes from its template's pool, and that is there.
    fn is_usual(&self, session: &Session, template: &Template) -> bool {
        let usual = Some(Shape::of_template(template));
        Shape::of_session(&session.facts) == usual && self.pools.has_kept(template)
    }

    async fn bring_up(
        self: &Arc<Self>,
        session: Session,
        template: &Template,
        noted: impl Future<Output = bool>,
    ) {
        let (given, is_noted) = tokio::join!(self.give_pod(&session, template), noted);
        if !is_noted {
            return self.give_back(&session).await;
        }
        let (executor, mut brought) = match given {
            Ok(given) => given,
            Err(error) => return self.fail(&session, &error.to_string()).await,
        };
        let id = session.id.clone();
        match self.note_running(&session, &executor).await {
            Ok(Some(session)) => {
                // What was uploaded since the files were listed saw no running session yet.
                if let Err(error) = self.bring_new(&id, &executor, &mut brought).await {
                    tracing::warn!(%error, session = id, "a file that was just uploaded is missing in its pod");
                }
                let is_furnished = session.facts.install != InstallStatus::Installing;
                let session = self.furnish(session).await;
                if !is_furnished {
                    // Code finds packages now that an interpreter before would not have found.
                    self.make_ready(&session, executor);
                }
            }
            // It was ended meanwhile: what it was given goes back.
            Ok(None) => self.give_back(&session).await,
            // The session stays as it was; the next sweep sees to it.
            Err(error) => {
                tracing::warn!(%error, session = id, "how it stands could not be noted");
            }
        }
    }

    async fn template_of(&self, session: &Session) -> Result<Template, OpenError> {
        let template = self.ledger.template(&session.template).await?;
        template.ok_or_else(|| OpenError::NoTemplate(session.template.clone()))
    }

    /// Installs the packages that a session was asked for with, once it runs; the session as
    /// it is then.
    pub(crate) async fn furnish(self: &Arc<Self>, session: Session) -> Session {
        if session.facts.install != InstallStatus::Installing {
            return session;
        }
        match self.install(&session).await {
            Ok(installation) => installation.session,
            Err(error) => {
                tracing::warn!(%error, session = session.id, "its packages could not be seen to");
                session
            }
        }
    }

    /// Makes an agent ready for its session's first code, which then need not wait for that: it is
    /// connected to, and where the code may be Python an interpreter waits for it, briefly or as
    /// long as the session's template asks for.
    fn make_ready(&self, session: &Session, executor: Executor) {
        let facts = &session.facts;
        let may_be_python = facts.prestarted || facts.runtime.starts_with("python");
        // An interpreter that was up before the packages would not find them.
        let is_furnished = facts.install != InstallStatus::Installing;
        let waits = may_be_python && is_furnished;
        let (env, briefly) = (self.environment(session), !facts.prestarted);
        let id = session.id.clone();
        self.tasks.spawn(async move {
            if !waits {
                return executor.greet().await;
            }
            if let Err(status) = executor.prepare(env, briefly).await {
                tracing::debug!(%status, session = id, "no interpreter was started ahead");
            }
        });
    }

    /// The agent of its pod, and the files that were brought there.
    async fn give_pod(
        &self,
        session: &Session,
        template: &Template,
    ) -> Result<(Executor, Brought), OpenError> {
        let wanted = Shape::of_session(&session.facts);
        let own = wanted.filter(|wanted| *wanted != Shape::of_template(template));
        let executor = match own {
            None => self.pod_of_pool(session, template).await?,
            Some(shape) => self.pod_of_its_own(session, template, shape).await?,
        };
        // Only now: what is uploaded while a session waits for its pod is there when it runs.
        let mut brought = Brought::default();
        for _ in 0..ROUNDS {
            if !self.bring_new(&session.id, &executor, &mut brought).await? {
                break;
            }
        }
        self.make_ready(session, executor.clone());
        Ok((executor, brought))
    }

    /// A warm pod of its template's pool.
    async fn pod_of_pool(
        &self,
        session: &Session,
        template: &Template,
    ) -> Result<Executor, OpenError> {
        let coming = self.claimed_pod(session, pool_name(template));
        if self.pools.has_kept(template) {
            return self.though_removed(template, coming).await;
        }
        let kept = async { Ok(self.pools.keep(template).await?) };
        let ((), executor) = tokio::try_join!(kept, coming)?;
        Ok(executor)
    }

    /// A pod of another shape than its template's, from a pool of one.
    async fn pod_of_its_own(
        &self,
        session: &Session,
        template: &Template,
        shape: Shape,
    ) -> Result<Executor, OpenError> {
        let pool = own_pool_name(&session.id);
        let made = async { Ok(self.pools.make_own(template, &session.id, shape).await?) };
        let come = tokio::try_join!(made, self.claimed_pod(session, pool.clone()));
        // The pod is the session's own by now, or never came.
        self.pools.remove(&pool).await?;
        Ok(come?.1)
    }

    /// Claims a pod and waits for it.
    async fn claimed_pod(&self, session: &Session, pool: String) -> Result<Executor, OpenError> {
        let claim = &session.facts.claim;
        // While somebody waits for it, nothing that is heard of it is forgotten.
        let _waited_for = self.claims.wait_for(claim);
        self.claims.make(claim, &session.id, &pool).await?;
        let patience = self.settings.limits.creating;
        Ok(self.executors.of(&self.claims, claim, patience).await?)
    }

    /// Waits for a pod from a pool that was there before. Should somebody have removed it since,
    /// it is made again.
    async fn though_removed(
        &self,
        template: &Template,
        coming: impl Future<Output = Result<Executor, OpenError>>,
    ) -> Result<Executor, OpenError> {
        let mut coming = std::pin::pin!(coming);
        match tokio::time::timeout(WARM, &mut coming).await {
            Ok(come) => come,
            Err(_) => {
                self.pools.keep(template).await?;
                coming.await
            }
        }
    }

    /// Brings the files of a session into its new pod that were not brought there as they are now;
    /// whether there were any.
    async fn bring_new(
        &self,
        session: &str,
        executor: &Executor,
        brought: &mut Brought,
    ) -> Result<bool, OpenError> {
        let before = brought.len();
        for file in self.files.list(session, "", MOST_FILES).await? {
            if !brought.insert((file.path.clone(), file.size, file.modified)) {
                continue;
            }
            let content: Content = match self.files.get(session, &file.path).await {
                // One that was in the way is taken back at this moment.
                Err(FileError::Missing(_)) => continue,
                content => content?,
            };
            let written = executor.write(&file.path, content).await;
            written.map_err(|status| {
                OpenError::Restore(format!("{}: {}", file.path, status.message()))
            })?;
        }
        Ok(brought.len() > before)
    }

    /// The session as it is once it runs; nothing if it was not waited for any more.
    async fn note_running(
        &self,
        session: &Session,
        executor: &Executor,
    ) -> Result<Option<Session>, LedgerError> {
        let changed = self
            .ledger
            .change_known_session(session.clone(), |session| {
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
            return Ok(None);
        };
        // How long a pod that was lost took to be replaced is another matter.
        let is_first = session.facts.claim == first_claim(&session.id);
        let took = session.active.duration_since(session.created);
        self.metrics
            .session_runs(is_first.then(|| took.as_secs_f64().max(0.0)));
        Ok(Some(session))
    }
}
