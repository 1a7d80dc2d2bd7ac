//! A pod as the index keeps it: a handful of facts instead of the whole object.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use sandlot_access::{AGENT_KEY_ANNOTATION, OPERATOR_KEY_ANNOTATION, PublicKey};
use sandlot_api::arl::names;
use sandlot_decide::{
    Seniority,
    pool::{self, Health, Use},
    sandbox::Visit,
};

use super::{
    Key, Uid,
    key::{made, revision},
};
use crate::pods::health;

/// A pod of some pool.
pub(crate) struct PodEntry {
    pub(crate) key: Key,
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) pool: Key,
    pub(crate) template_revision: Arc<str>,
    /// The uid of the sandbox that has it.
    pub(crate) claim: Option<Uid>,
    pub(crate) claimed_at: Option<Timestamp>,
    pub(crate) ip: Option<Arc<str>>,
    /// What its agent proves itself with.
    pub(crate) agent_key: Option<PublicKey>,
    /// Whose calls its agent takes; without it, anybody's.
    pub(crate) operator_key: Option<PublicKey>,
    pub(crate) facts: pool::Pod,
    /// When its last container began, and how often any of them has been started anew.
    pub(super) began: Option<(Timestamp, u32)>,
    /// When somebody was last in it without a task, as its node says.
    pub(crate) visit: Option<Visit>,
    /// The pod has ended for good, with these last words.
    pub(crate) ended: Option<String>,
    /// A write about it, or its reset, is under way.
    pub(crate) busy: bool,
}

impl PodEntry {
    /// Reads a pod; nothing if it belongs to no pool or a newer sight of it is known already.
    pub(super) fn read(
        key: &Key,
        pod: &v1::Pod,
        old: Option<&Self>,
        now: Timestamp,
    ) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        let pool = labels
            .get(names::POOL)
            .or_else(|| labels.get(names::POOL_SHORT))?;
        let uid: Uid = Arc::from(pod.metadata.uid.as_deref()?);
        let revision = revision(&pod.metadata);
        let old = old.filter(|old| old.uid == uid);
        if old.is_some_and(|old| old.revision > revision) {
            return None;
        }
        let note = |name: &str| {
            pod.metadata
                .annotations
                .as_ref()
                .and_then(|notes| notes.get(name))
        };
        let claim: Option<Uid> = note(names::CLAIMED_BY).map(|uid| Arc::from(uid.as_str()));
        let idle = claim.is_none()
            && labels
                .get(names::STATUS)
                .is_none_or(|status| status == "idle");
        let health = health::of(pod, old.map(|old| &old.facts.health), now);
        Some(Self {
            key: key.clone(),
            uid,
            revision,
            resource_version: pod.metadata.resource_version.clone().unwrap_or_default(),
            pool: key.beside(pool),
            template_revision: Arc::from(note(names::TEMPLATE).map_or("", String::as_str)),
            claimed_at: note(names::CLAIMED_AT).and_then(|at| at.parse().ok()),
            claim,
            ip: pod
                .status
                .as_ref()
                .and_then(|status| status.pod_ip.as_deref())
                .map(Arc::from),
            agent_key: note(AGENT_KEY_ANNOTATION).and_then(|key| key.parse().ok()),
            operator_key: note(OPERATOR_KEY_ANNOTATION).and_then(|key| key.parse().ok()),
            visit: note(names::LAST_VISIT)
                .and_then(|at| at.parse().ok())
                .map(|last| Visit {
                    last,
                    lasts: note(names::VISITORS).is_some_and(|count| count != "0"),
                }),
            began: health::last_start(pod),
            ended: health::last_words(pod),
            facts: pool::Pod {
                name: key.name.clone(),
                made: old.map_or(
                    Seniority {
                        at: made(&pod.metadata),
                        revision,
                    },
                    |old| old.facts.made,
                ),
                used: if idle { Use::Idle } else { Use::Taken },
                health,
                current: true,
                leaving: pod.metadata.deletion_timestamp.is_some(),
                evict: false,
            },
            busy: old.is_some_and(|old| old.busy),
        })
    }

    /// Since when it can be given to a sandbox, if it can.
    pub(super) fn ready_to_give(&self) -> Option<Timestamp> {
        match self.facts.health {
            Health::Ready { since }
                if self.facts.used == Use::Idle && !self.facts.leaving && !self.busy =>
            {
                self.ip.as_ref().map(|_| since)
            }
            _ => None,
        }
    }

    /// Whether tasks can run in it.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.facts.health, Health::Ready { .. })
            && self.ip.is_some()
            && !self.facts.leaving
    }
}
