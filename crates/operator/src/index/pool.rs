//! A pool as the index keeps it.

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_api::arl::{PodTemplate, Recycle, WarmPool, WarmPoolStatus};

use super::{Key, Uid, key::revision};
use crate::{pods::stock::Stock, rounds::LastTold};

/// A pool, and what the operator remembers of it.
pub(crate) struct PoolEntry {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) replicas: u32,
    pub(crate) recycle: Recycle,
    pub(crate) template: Arc<PodTemplate>,
    /// Tells pods of this template from pods of an older one.
    pub(crate) template_revision: Arc<str>,
    pub(crate) status: WarmPoolStatus,
    pub(crate) leaving: bool,
    /// How many pods are on their way, and what keeps them from it: what those who wait are told.
    pub(crate) coming: Coming,
    pub(crate) stock: Stock,
    pub(crate) told: LastTold,
    pub(crate) writing: bool,
}

/// What those who wait for a pod are told of their pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coming {
    pub(crate) starting: u32,
    pub(crate) trouble: Option<String>,
    /// When they were last told to look.
    pub(crate) told: Option<Timestamp>,
}

impl PoolEntry {
    /// Whether one who waits for this pool would wait for another reason than before.
    pub(super) fn waits_differ(&self, old: Option<&Self>) -> bool {
        let essence = |pool: &Self| (pool.uid.clone(), pool.replicas == 0, pool.leaving);
        old.map(essence) != Some(essence(self))
    }

    /// Reads a pool; nothing if a newer one is known already.
    pub(super) fn read(key: &Key, pool: &WarmPool, old: Option<&Self>) -> Option<Self> {
        let uid: Uid = Arc::from(pool.metadata.uid.as_deref()?);
        let revision = revision(&pool.metadata);
        let old = old.filter(|old| old.uid == uid);
        if old.is_some_and(|old| old.revision > revision) {
            return None;
        }
        let template_revision = match old {
            Some(old) if *old.template == pool.spec.template => old.template_revision.clone(),
            _ => Arc::from(fingerprint(&pool.spec.template)),
        };
        tracing::trace!(pool = %key, revision, "pool seen");
        Some(Self {
            uid,
            revision,
            resource_version: pool.metadata.resource_version.clone().unwrap_or_default(),
            generation: pool.metadata.generation,
            replicas: u32::try_from(pool.spec.replicas).unwrap_or(0),
            recycle: pool.spec.recycle.unwrap_or_default(),
            template: old
                .filter(|old| *old.template == pool.spec.template)
                .map_or_else(
                    || Arc::new(pool.spec.template.clone()),
                    |old| old.template.clone(),
                ),
            status: pool.status.clone().unwrap_or_default(),
            leaving: pool.metadata.deletion_timestamp.is_some(),
            stock: old
                .map_or_else(Stock::default, |old| old.stock.clone())
                .under(&template_revision),
            template_revision,
            coming: old.map_or_else(Coming::default, |old| old.coming.clone()),
            told: old.map_or_else(LastTold::default, |old| old.told),
            writing: old.is_some_and(|old| old.writing),
        })
    }
}

/// A short name for a template's content.
fn fingerprint(template: &PodTemplate) -> String {
    // FNV-1a, to tell templates apart: the same object is read in the same order every time.
    let text = serde_json::to_string(template).unwrap_or_default();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
