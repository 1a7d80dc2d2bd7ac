//! A snapshot as this index keeps it.

use std::sync::Arc;

use sandlot_api::opensandbox::{
    SandboxSnapshot, SandboxSnapshotSpec, SandboxSnapshotStatus, SnapshotPhase, names,
};
use tokio_util::sync::CancellationToken;

use crate::index::{Uid, key::revision};

/// A snapshot, and what the operator remembers of it.
pub(crate) struct SnapshotEntry {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) spec: Arc<SandboxSnapshotSpec>,
    pub(crate) status: SandboxSnapshotStatus,
    pub(crate) finalizers: Vec<String>,
    /// The uid of the batch that had it made, if one had.
    pub(crate) owner: Option<Uid>,
    /// The generation of that batch whose wish it answers.
    pub(crate) answers: Option<i64>,
    /// The uid of the pod that is saved.
    pub(crate) source: Option<Uid>,
    pub(crate) leaving: bool,
    pub(crate) writing: bool,
    /// Its pod is being saved; cancelling ends that.
    pub(crate) saving: Option<CancellationToken>,
}

impl SnapshotEntry {
    /// Reads a snapshot; nothing if a newer sight of it is known already.
    pub(super) fn read(snapshot: &SandboxSnapshot, old: Option<&Self>) -> Option<Self> {
        let meta = &snapshot.metadata;
        let uid: Uid = Arc::from(meta.uid.as_deref()?);
        let revision = revision(meta);
        let old = old.filter(|old| old.uid == uid);
        if old.is_some_and(|old| old.revision > revision) {
            return None;
        }
        let note = |name: &str| {
            let notes = meta.annotations.as_ref();
            notes.and_then(|notes| notes.get(name))
        };
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| owner.controller == Some(true));
        Some(Self {
            uid,
            revision,
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            generation: meta.generation,
            spec: Arc::new(snapshot.spec.clone()),
            status: snapshot.status.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            owner: owner.map(|owner| Arc::from(owner.uid.as_str())),
            answers: note(names::PAUSE_GENERATION).and_then(|text| text.parse().ok()),
            source: note(names::SOURCE_POD_UID).map(|uid| Arc::from(uid.as_str())),
            leaving: meta.deletion_timestamp.is_some(),
            writing: old.is_some_and(|old| old.writing),
            saving: old.and_then(|old| old.saving.clone()),
        })
    }

    /// Whether nothing about it changes any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(
            self.status.phase,
            Some(SnapshotPhase::Succeed | SnapshotPhase::Failed)
        )
    }

    /// The image that a container was saved as.
    pub(crate) fn image_of(&self, container: &str) -> Option<&str> {
        let mut saved = self.status.containers.iter();
        let found = saved.find(|saved| saved.container_name == container)?;
        Some(&found.image_uri)
    }
}
