//! What has changed and wants to be looked at.

use std::collections::BTreeSet;

use super::Key;

/// Objects that a controller should look at.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) pools: BTreeSet<Key>,
    pub(crate) sandboxes: BTreeSet<Key>,
    pub(crate) tasks: BTreeSet<Key>,
    /// Tasks that are gone; what runs for them must end.
    pub(crate) gone_tasks: BTreeSet<Key>,
    /// Pods that may be free again, or that may have to be given back.
    pub(crate) pods: BTreeSet<Key>,
}

impl Marks {
    pub(crate) fn pool(&mut self, key: &Key) {
        self.pools.insert(key.clone());
    }

    pub(crate) fn sandbox(&mut self, key: &Key) {
        self.sandboxes.insert(key.clone());
    }

    pub(crate) fn task(&mut self, key: &Key) {
        self.tasks.insert(key.clone());
    }

    pub(crate) fn gone_task(&mut self, key: &Key) {
        self.gone_tasks.insert(key.clone());
    }

    pub(crate) fn pod(&mut self, pod: &Key) {
        self.pods.insert(pod.clone());
    }
}
