//! What clients said that was not passed on: counted, and what was too long logged once for each.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

/// How many clients are named in the log; the rest is only counted.
const NAMED: usize = 1000;

/// Why a message was not passed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Why {
    reason: &'static str,
}

/// What was not passed on.
#[derive(Clone, Default)]
pub(crate) struct Refused {
    /// How many messages, by why.
    pub(crate) counts: Family<Why, Counter<u64, AtomicU64>>,
    named: Arc<Mutex<BTreeSet<String>>>,
}

impl Refused {
    /// A client said more at once than anybody may.
    pub(super) fn too_long(&self, client: &str, topic: &str) {
        self.count("too_long");
        // A set of names is whole after every statement that could panic.
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() < NAMED && named.insert(client.to_owned()) {
            tracing::warn!(
                client,
                topic,
                "a message is too long and is not passed on; the next ones of this client are only counted"
            );
        }
    }

    /// A client said something where it may not.
    pub(super) fn not_allowed(&self) {
        self.count("not_allowed");
    }

    fn count(&self, reason: &'static str) {
        self.counts.get_or_create(&Why { reason }).inc();
    }
}
