//! A sandbox as the index keeps it.

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_api::arl::{Sandbox, SandboxSpec, SandboxStatus, names};
use sandlot_decide::Seniority;

use super::{
    Key, Uid,
    key::{made, revision},
};

/// A sandbox, and what the operator remembers of it.
pub(crate) struct SandboxEntry {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) seniority: Seniority,
    pub(crate) pool: Key,
    pub(crate) spec: SandboxSpec,
    pub(crate) status: SandboxStatus,
    pub(crate) leaving: bool,
    /// It has the finalizer that older operators put on sandboxes.
    pub(crate) held: bool,
    /// Finalizers of others.
    pub(crate) other_finalizers: Vec<String>,
    /// When it was seen first.
    pub(crate) seen: Timestamp,
    /// When the last task ended, more exactly than the status can say.
    pub(crate) last_ended: Option<Timestamp>,
    /// When somebody last worked in it without a task, as far as they said so.
    pub(crate) last_activity: Option<Timestamp>,
    /// What is being written about it.
    pub(crate) writing: Option<Writing>,
    /// A pod is on its way to it. That goes on beside a write of its status: a pod that becomes
    /// ready while a sandbox is told to wait is given to it at once.
    pub(crate) claiming: bool,
}

/// What is being written about a sandbox; one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// How it is.
    Status,
    /// Its end.
    End,
}

impl SandboxEntry {
    /// Reads a sandbox; nothing if a newer one is known already.
    pub(super) fn read(
        key: &Key,
        sandbox: &Sandbox,
        old: Option<&Self>,
        now: Timestamp,
    ) -> Option<Self> {
        let uid: Uid = Arc::from(sandbox.metadata.uid.as_deref()?);
        let revision = revision(&sandbox.metadata);
        let old = old.filter(|old| old.uid == uid);
        if old.is_some_and(|old| old.revision > revision) {
            return None;
        }
        let status = sandbox.status.clone().unwrap_or_default();
        let stored = status.last_task_time.as_ref().map(|time| time.0);
        let finalizers = sandbox.metadata.finalizers.as_deref().unwrap_or_default();
        Some(Self {
            uid,
            revision,
            resource_version: sandbox
                .metadata
                .resource_version
                .clone()
                .unwrap_or_default(),
            generation: sandbox.metadata.generation,
            seniority: old.map_or(
                Seniority {
                    at: made(&sandbox.metadata),
                    revision,
                },
                |old| old.seniority,
            ),
            pool: key.beside(&sandbox.spec.pool_ref),
            spec: sandbox.spec.clone(),
            leaving: sandbox.metadata.deletion_timestamp.is_some(),
            other_finalizers: finalizers
                .iter()
                .filter(|name| *name != names::SANDBOX_FINALIZER)
                .cloned()
                .collect(),
            seen: old.map_or(now, |old| old.seen),
            held: finalizers
                .iter()
                .any(|name| name == names::SANDBOX_FINALIZER),
            last_activity: sandbox
                .metadata
                .annotations
                .as_ref()
                .and_then(|notes| notes.get(names::LAST_ACTIVITY)?.parse().ok()),
            last_ended: old.and_then(|old| old.last_ended).max(stored),
            writing: old.and_then(|old| old.writing),
            claiming: old.is_some_and(|old| old.claiming),
            status,
        })
    }

    /// A task of this sandbox has ended.
    pub(super) fn task_ended(&mut self, at: Timestamp) {
        self.last_ended = self.last_ended.max(Some(at));
    }
}
