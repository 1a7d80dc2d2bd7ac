//! Claims: a session has a pod by way of a Sandbox, and one watch tells how all of them stand.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, LogParams, ObjectMeta, PostParams},
};
use sandlot_api::arl::{Sandbox, SandboxPhase, SandboxSpec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    pods::Pods,
    watching::{self, News},
};

/// The label by which our claims are known from others'.
const LABEL: (&str, &str) = ("sandlot.dev/claimed-by", "gateway");
/// The most of a log that is handed on, in bytes.
const LARGEST_LOG: i64 = 4 << 20;
/// The annotation that names the session.
pub(crate) const SESSION: &str = "sandlot.dev/session";

/// How a claim stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It waits for a pod, for this reason.
    Waiting(String),
    /// It has one.
    Ready {
        /// The pod's name.
        pod: String,
        /// The pod's address.
        ip: String,
    },
    /// It had or was to have one, and this came between.
    Lost(String),
}

/// A claim as it was made.
pub(crate) struct Claim {
    pub(crate) name: String,
    /// The session that it was made for.
    pub(crate) session: String,
    pub(crate) made: Timestamp,
}

/// Why there is no pod for a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// It is lost.
    #[error("{0}")]
    Lost(String),
    /// None came in time.
    #[error("no pod became ready within {0:?}: {1}")]
    Late(Duration, String),
    /// The API refused.
    #[error("the Kubernetes API: {0}")]
    Api(#[from] kube::Error),
}

/// The claims of all sessions.
pub(crate) struct Claims {
    client: Client,
    namespace: String,
    pub(crate) pods: Pods,
    standings: Mutex<HashMap<String, watch::Sender<Option<Standing>>>>,
    /// Wakes who looks for lost pods.
    lost: tokio::sync::Notify,
}

impl Claims {
    pub(crate) fn new(client: Client, namespace: String) -> Self {
        Self {
            pods: Pods::new(client.clone(), namespace.clone()),
            client,
            namespace,
            standings: Mutex::default(),
            lost: tokio::sync::Notify::new(),
        }
    }

    fn api(&self) -> Api<Sandbox> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Follows all claims until cancelled.
    pub(crate) async fn follow(&self, cancel: &CancellationToken) {
        let hear = |news| match news {
            News::There(sandbox) => self.saw(&sandbox),
            // Whose claim was given back is not waited for any more.
            News::Gone(name) if self.standing(&name).is_none() => {}
            News::Gone(name) => self.note(&name, deleted()),
            News::Only(names) => self.keep_only(&names),
        };
        watching::follow(self.api(), LABEL, cancel, hear).await;
    }

    fn saw(&self, sandbox: &Sandbox) {
        if let Some(name) = &sandbox.metadata.name {
            self.note(name, standing(sandbox));
        }
    }

    fn note(&self, name: &str, standing: Standing) {
        let is_lost = matches!(standing, Standing::Lost(_));
        self.sender(name).send_if_modified(|known| {
            let news = known.as_ref() != Some(&standing);
            *known = Some(standing);
            news
        });
        if is_lost {
            self.lost.notify_one();
        }
    }

    /// What is not in a fresh list was deleted while nobody looked.
    fn keep_only(&self, listed: &BTreeSet<String>) {
        let standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (name, sender) in standings.iter() {
            let is_known = sender.borrow().is_some();
            if is_known && !listed.contains(name) {
                sender.send_replace(Some(deleted()));
                self.lost.notify_one();
            }
        }
    }

    fn sender(&self, name: &str) -> watch::Sender<Option<Standing>> {
        let mut standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standings.entry(name.to_owned()).or_default().clone()
    }

    /// How a claim stands, as far as that is known.
    pub(crate) fn standing(&self, name: &str) -> Option<Standing> {
        let standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standings
            .get(name)
            .and_then(|sender| sender.borrow().clone())
    }

    /// Whether a claim has its pod, as far as that is known.
    pub(crate) fn is_ready(&self, name: &str) -> bool {
        matches!(self.standing(name), Some(Standing::Ready { .. }))
    }

    /// The claims of which something was heard.
    pub(crate) fn known(&self) -> Vec<String> {
        let standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standings.keys().cloned().collect()
    }

    /// Forgets how claims stood that nobody has any more, unless somebody waits for them.
    pub(crate) fn forget(&self, names: impl IntoIterator<Item = String>) {
        let mut standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for name in names {
            if standings
                .get(&name)
                .is_some_and(|of| of.receiver_count() == 0)
            {
                standings.remove(&name);
            }
        }
    }

    /// Wakes who looks for lost pods.
    pub(crate) fn look(&self) {
        self.lost.notify_one();
    }

    /// Waits until a claim is lost, any claim.
    pub(crate) async fn any_lost(&self) {
        self.lost.notified().await;
    }

    /// Claims a pod from a pool for a session. Asking twice is the same claim.
    pub(crate) async fn make(
        &self,
        name: &str,
        session: &str,
        pool: &str,
    ) -> Result<(), ClaimError> {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
            annotations: Some([(SESSION.to_owned(), session.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let spec = SandboxSpec {
            pool_ref: pool.to_owned(),
            keep_alive: Some(true),
            // The session says when its time is over.
            idle_timeout_seconds: Some(0),
            max_lifetime_seconds: Some(0),
            ..SandboxSpec::default()
        };
        let sandbox = Sandbox {
            metadata,
            spec,
            status: None,
        };
        match self.api().create(&PostParams::default(), &sandbox).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what is heard of a claim, for as long as this is held.
    pub(crate) fn wait_for(&self, name: &str) -> watch::Receiver<Option<Standing>> {
        self.sender(name).subscribe()
    }

    /// Waits for a claim's pod: its name and address.
    pub(crate) async fn ready(
        &self,
        name: &str,
        patience: Duration,
    ) -> Result<(String, String), ClaimError> {
        let mut standing = self.wait_for(name);
        let decided = standing.wait_for(|standing| {
            matches!(standing, Some(Standing::Ready { .. } | Standing::Lost(_)))
        });
        let decided = tokio::time::timeout(patience, decided).await;
        match decided.map(|known| known.map(|known| known.clone())) {
            Ok(Ok(Some(Standing::Ready { pod, ip }))) => Ok((pod, ip)),
            Ok(Ok(Some(Standing::Lost(why)))) => Err(ClaimError::Lost(why)),
            _ => {
                let why = match self.standing(name) {
                    Some(Standing::Waiting(why)) => why,
                    _ => "nothing was heard of it".to_owned(),
                };
                Err(ClaimError::Late(patience, why))
            }
        }
    }

    /// What a pod's agent said, its last lines, since so many seconds ago.
    pub(crate) async fn log(
        &self,
        pod: &str,
        tail: i64,
        since: Option<i64>,
    ) -> Result<String, ClaimError> {
        let wanted = LogParams {
            tail_lines: Some(tail),
            since_seconds: since,
            limit_bytes: Some(LARGEST_LOG),
            ..LogParams::default()
        };
        Ok(self.pods.api().logs(pod, &wanted).await?)
    }

    /// Gives a claim's pod back.
    pub(crate) async fn release(&self, name: &str) -> Result<(), ClaimError> {
        let deleted = self.api().delete(name, &DeleteParams::default()).await;
        match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let mut standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standings.remove(name);
        Ok(())
    }

    /// Whether the API answers.
    pub(crate) async fn answers(&self) -> Result<(), ClaimError> {
        let one = kube::api::ListParams::default().limit(1);
        self.api().list(&one).await?;
        Ok(())
    }

    /// All claims there are.
    pub(crate) async fn all(&self) -> Result<Vec<Claim>, ClaimError> {
        let ours = kube::api::ListParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
        let list = self.api().list(&ours).await?;
        let known = |sandbox: Sandbox| {
            let metadata = sandbox.metadata;
            Some(Claim {
                session: metadata.annotations?.remove(SESSION)?,
                name: metadata.name?,
                made: metadata.creation_timestamp?.0,
            })
        };
        Ok(list.items.into_iter().filter_map(known).collect())
    }
}

fn deleted() -> Standing {
    Standing::Lost("its sandbox was deleted".to_owned())
}

fn standing(sandbox: &Sandbox) -> Standing {
    let status = sandbox.status.clone().unwrap_or_default();
    let why = status
        .conditions
        .iter()
        .flatten()
        .map(|condition| condition.message.clone())
        .rfind(|message| !message.is_empty());
    match (status.phase, status.pod_name, status.pod_ip) {
        (Some(SandboxPhase::Ready | SandboxPhase::Bound), Some(pod), Some(ip)) => {
            Standing::Ready { pod, ip }
        }
        (Some(SandboxPhase::Failed | SandboxPhase::Released), ..) => {
            Standing::Lost(why.unwrap_or_else(|| "its pod is gone".to_owned()))
        }
        _ => Standing::Waiting(why.unwrap_or_else(|| "it was not looked at yet".to_owned())),
    }
}
