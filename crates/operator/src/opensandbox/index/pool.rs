//! A pool as this index keeps it.

use std::sync::Arc;

use sandlot_api::opensandbox::{Pool, PoolSpec, PoolStatus};
use sha2::{Digest, Sha256};

use super::Made;
use crate::{
    index::{Key, Uid, key::revision},
    pods::stock::Stock,
    rounds::LastTold,
};

/// A pool, and what the operator remembers of it.
pub(crate) struct PoolEntry {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) spec: Arc<PoolSpec>,
    /// Tells pods of this template from pods of an older one.
    pub(crate) template_revision: Arc<str>,
    pub(crate) status: Option<PoolStatus>,
    pub(crate) finalizers: Vec<String>,
    /// Its labels, for batches that look for a pool.
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    /// How its pods are restarted when they come back.
    pub(crate) restart_config: Option<String>,
    /// Its template's task executor is kept and spoken to in the open.
    pub(crate) plain: bool,
    pub(crate) leaving: bool,
    pub(crate) stock: Stock,
    /// Pods that no event has told of.
    pub(crate) made: Made,
    pub(crate) told: LastTold,
    pub(crate) writing: bool,
}

impl PoolEntry {
    /// Reads a pool; nothing if a newer one is known already.
    pub(super) fn read(key: &Key, pool: &Pool, old: Option<&Self>) -> Option<Self> {
        use sandlot_api::opensandbox::names;
        let meta = &pool.metadata;
        let uid: Uid = Arc::from(meta.uid.as_deref()?);
        let revision = revision(meta);
        let old = old.filter(|old| old.uid == uid);
        if old.is_some_and(|old| old.revision > revision) {
            return None;
        }
        let same = old.filter(|old| *old.spec == pool.spec);
        let template_revision = match old {
            Some(old) if old.spec.template == pool.spec.template => old.template_revision.clone(),
            _ => Arc::from(fingerprint(&pool.spec)),
        };
        let note = |name: &str| meta.annotations.as_ref().and_then(|notes| notes.get(name));
        tracing::trace!(pool = %key, revision, "pool seen");
        Some(Self {
            uid,
            revision,
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            generation: meta.generation,
            spec: same.map_or_else(|| Arc::new(pool.spec.clone()), |old| old.spec.clone()),
            stock: old
                .map_or_else(Stock::default, |old| old.stock.clone())
                .under(&template_revision),
            made: old.map(|old| old.made.clone()).unwrap_or_default(),
            template_revision,
            status: pool.status.clone(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            restart_config: note(names::RESTART_CONFIG).cloned(),
            plain: note(names::TASK_EXECUTOR).is_some_and(|word| word == names::PLAIN_EXECUTOR),
            leaving: meta.deletion_timestamp.is_some(),
            told: old.map_or_else(LastTold::default, |old| old.told),
            writing: old.is_some_and(|old| old.writing),
        })
    }
}

/// The revision of a template: the first eight bytes of its SHA-256.
fn fingerprint(spec: &PoolSpec) -> String {
    let text = serde_json::to_vec(&spec.template).unwrap_or_default();
    let hash = Sha256::digest(text);
    hash.iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
