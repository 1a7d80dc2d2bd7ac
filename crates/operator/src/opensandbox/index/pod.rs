//! A pod as this index keeps it: a handful of facts instead of the whole object.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use sandlot_access::{AGENT_KEY_ANNOTATION, OPERATOR_KEY_ANNOTATION, PublicKey};
use sandlot_api::opensandbox::names;
use sandlot_decide::{
    Seniority,
    pool::{self, Health, Use},
};

use crate::{
    index::{
        Key, Uid,
        key::{made, revision},
    },
    pods::health,
};

/// Where a pod comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A pool made it.
    Pool {
        pool: Key,
        /// The revision of the template it was made from.
        revision: Arc<str>,
    },
    /// A batch made it for itself.
    Batch { batch: Key, index: usize },
}

/// Which task executor is in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executor {
    /// Our own.
    Ours,
    /// The template's own, which was asked for and is spoken to in the open.
    Plain,
    /// None that anybody spoke of.
    Unsaid,
}

/// A pod of a pool or of a batch.
pub(crate) struct PodEntry {
    pub(crate) key: Key,
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) origin: Origin,
    /// The uid of the pool or batch that owns it.
    pub(crate) owner: Option<Uid>,
    pub(crate) ip: Option<Arc<str>>,
    /// The node it was given to.
    pub(crate) node: Option<Arc<str>>,
    pub(crate) executor: Executor,
    /// What its task executor proves itself with; without it, it speaks in the open.
    pub(crate) agent_key: Option<PublicKey>,
    /// Whose calls its executor takes; without it, anybody's.
    pub(crate) operator_key: Option<PublicKey>,
    pub(crate) facts: pool::Pod,
    /// The pod has ended for good, with these last words.
    pub(crate) ended: Option<String>,
    /// The ids of its running containers, by name.
    pub(crate) containers: BTreeMap<String, String>,
    /// How far its restart is, as written down.
    pub(crate) restart: Option<String>,
    /// A write about it is under way.
    pub(crate) busy: bool,
}

impl PodEntry {
    /// Reads a pod; nothing if it is nobody's here or a newer sight of it is known already.
    pub(super) fn read(
        key: &Key,
        pod: &v1::Pod,
        old: Option<&Self>,
        now: Timestamp,
    ) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        let origin = origin(key, labels)?;
        let uid: Uid = Arc::from(pod.metadata.uid.as_deref()?);
        let revision = revision(&pod.metadata);
        let old = old.filter(|old| old.uid == uid);
        if old.is_some_and(|old| old.revision > revision) {
            return None;
        }
        let note = |name: &str| {
            let notes = pod.metadata.annotations.as_ref();
            notes.and_then(|notes| notes.get(name))
        };
        let status = pod.status.as_ref();
        let spec = pod.spec.as_ref();
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| {
            owner.controller == Some(true) && owner.api_version == names::API_VERSION
        });
        Some(Self {
            key: key.clone(),
            uid,
            revision,
            resource_version: pod.metadata.resource_version.clone().unwrap_or_default(),
            origin,
            owner: owner.map(|owner| Arc::from(owner.uid.as_str())),
            ip: status
                .and_then(|status| status.pod_ip.as_deref())
                .filter(|ip| !ip.is_empty())
                .map(Arc::from),
            node: spec
                .and_then(|spec| spec.node_name.as_deref())
                .map(Arc::from),
            executor: match note(names::TASK_EXECUTOR).map(String::as_str) {
                Some(names::OWN_EXECUTOR) => Executor::Ours,
                Some(names::PLAIN_EXECUTOR) => Executor::Plain,
                _ => Executor::Unsaid,
            },
            agent_key: note(AGENT_KEY_ANNOTATION).and_then(|key| key.parse().ok()),
            operator_key: note(OPERATOR_KEY_ANNOTATION).and_then(|key| key.parse().ok()),
            ended: health::last_words(pod),
            containers: running(pod),
            restart: note(names::RESTART_RECORD).cloned(),
            facts: pool::Pod {
                name: key.name.clone(),
                made: old.map_or(
                    Seniority {
                        at: made(&pod.metadata),
                        revision,
                    },
                    |old| old.facts.made,
                ),
                used: Use::Idle,
                health: health::of(pod, old.map(|old| &old.facts.health), now),
                current: true,
                leaving: pod.metadata.deletion_timestamp.is_some(),
                evict: labels.contains_key(names::EVICT),
            },
            busy: old.is_some_and(|old| old.busy),
        })
    }

    /// Since when it can be given out, were it nobody's.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        match self.facts.health {
            Health::Ready { since } if !self.facts.leaving && !self.busy => {
                self.ip.as_ref().map(|_| since)
            }
            _ => None,
        }
    }

    /// Whether a sandbox can work in it.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.facts.health, Health::Ready { .. }) && self.ip.is_some() && self.lives()
    }

    /// Whether it is there to stay: neither ended nor being deleted.
    pub(crate) fn lives(&self) -> bool {
        !self.facts.leaving && self.ended.is_none()
    }

    /// The pool it is of.
    pub(crate) fn pool(&self) -> Option<&Key> {
        match &self.origin {
            Origin::Pool { pool, .. } => Some(pool),
            Origin::Batch { .. } => None,
        }
    }
}

fn origin(key: &Key, labels: &BTreeMap<String, String>) -> Option<Origin> {
    if let Some(pool) = labels.get(names::POOL) {
        let revision = labels.get(names::POOL_REVISION).map_or("", String::as_str);
        return Some(Origin::Pool {
            pool: key.beside(pool),
            revision: Arc::from(revision),
        });
    }
    let batch = labels.get(names::BATCH)?;
    let index = labels.get(names::POD_INDEX)?.parse().ok()?;
    Some(Origin::Batch {
        batch: key.beside(batch),
        index,
    })
}

fn running(pod: &v1::Pod) -> BTreeMap<String, String> {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    containers
        .filter(|container| {
            let state = container.state.as_ref();
            state.is_some_and(|state| state.running.is_some())
        })
        .filter_map(|container| Some((container.name.clone(), container.container_id.clone()?)))
        .collect()
}
