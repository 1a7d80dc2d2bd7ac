//! What the operator knows: one picture of pools, pods, sandboxes and tasks.
//!
//! Watch events and the answers to the operator's own writes go in; whichever is newer wins. Every
//! change marks what it may concern, so that a controller looks only at what has changed. One task
//! owns the index and everything here is plain memory, so no lock and no lookup over the network
//! stands between a claim and its pod.

mod claims;
pub(crate) mod key;
mod marks;
mod pod;
mod pool;
mod sandbox;
mod task;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use sandlot_api::arl::{Sandbox, SandboxPhase, Task, WarmPool};
use sandlot_decide::{
    Seniority,
    shelf::{Shelf, trusted_from},
};

use claims::Claims;

pub(crate) use key::Key;
pub(crate) use marks::Marks;
pub(crate) use pod::PodEntry;
pub(crate) use pool::{Coming, PoolEntry};
pub(crate) use sandbox::{SandboxEntry, Writing};
pub(crate) use task::TaskEntry;

/// The uid of an object.
pub(crate) type Uid = Arc<str>;

/// Pods to give on one side, sandboxes that wait on the other.
pub(crate) type PoolShelf = Shelf<Key, Key>;

/// One picture of all that concerns the operator.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) pools: HashMap<Key, PoolEntry>,
    pub(crate) pods: HashMap<Key, PodEntry>,
    pub(crate) sandboxes: HashMap<Key, SandboxEntry>,
    pub(crate) tasks: HashMap<Key, TaskEntry>,
    /// Shelves outlive their pools: sandboxes may wait for a pool that is yet to come.
    pub(crate) shelves: HashMap<Key, PoolShelf>,
    pub(crate) marks: Marks,
    pods_of_pool: HashMap<Key, HashSet<Key>>,
    claims: Claims,
    sandbox_by_uid: HashMap<Uid, Key>,
    unfinished: HashMap<Key, BTreeSet<(Seniority, Key)>>,
}

impl Index {
    /// A pool is seen.
    pub(crate) fn see_pool(&mut self, pool: &WarmPool) {
        let Some(key) = Key::of(&pool.metadata) else {
            return;
        };
        let old = self.pools.get(&key);
        let Some(entry) = PoolEntry::read(&key, pool, old) else {
            return;
        };
        let waits_differ = entry.waits_differ(old);
        self.pools.insert(key.clone(), entry);
        if waits_differ {
            self.mark_waiting(&key);
        }
        self.marks.pool(&key);
    }

    /// A pool is gone.
    pub(crate) fn lose_pool(&mut self, key: &Key) {
        if self.pools.remove(key).is_some() {
            self.mark_waiting(key);
        }
    }

    /// A pod is seen.
    pub(crate) fn see_pod(&mut self, pod: &v1::Pod, now: Timestamp) {
        let Some(key) = Key::of(&pod.metadata) else {
            return;
        };
        let Some(entry) = PodEntry::read(&key, pod, self.pods.get(&key), now) else {
            return;
        };
        if let Some(pool) = self.pools.get_mut(&entry.pool) {
            pool.stock.answered(&entry.facts.name);
        }
        if let Some(old) = self.pods.get(&key).filter(|old| old.uid != entry.uid) {
            let old = old.uid.clone();
            self.forget_pod(&key, &old);
        }
        self.pods_of_pool
            .entry(entry.pool.clone())
            .or_default()
            .insert(key.clone());
        let before = self.pods.get(&key).and_then(|old| old.claim.clone());
        if let Some(before) = before.filter(|before| entry.claim.as_ref() != Some(before)) {
            self.free(&before, &key);
        }
        if let Some(claim) = &entry.claim {
            let named = self.told_of(claim).map(str::to_owned);
            self.claims.claimed(claim, &key, named.as_deref());
        }
        self.shelve(&entry);
        self.marks.pool(&entry.pool);
        self.mark_claimant(&entry);
        self.pods.insert(key, entry);
    }

    /// Puts a pod on its pool's shelf, or takes it off, as it is now.
    fn shelve(&mut self, entry: &PodEntry) {
        let trusted = self.trusted_from(entry);
        let shelf = self.shelves.entry(entry.pool.clone()).or_default();
        match (entry.ready_to_give(), trusted) {
            (Some(since), None) => shelf.put(entry.key.clone(), since),
            (Some(since), Some(until)) => shelf.prove(entry.key.clone(), since, until),
            // A claim on its way is confirmed by its own answer, not by an older sight of the pod.
            (None, _)
                if shelf.is_assumed(&entry.key)
                    && entry.claim.is_none()
                    && !entry.facts.leaving => {}
            (None, _) => shelf.take(&entry.key),
        }
    }

    /// From when on a pod may be given out, where that is not at once.
    fn trusted_from(&self, entry: &PodEntry) -> Option<Timestamp> {
        let (began, restarts) = entry.began?;
        let pool = self.pools.get(&entry.pool);
        let others_crash = pool.is_some_and(|pool| pool.stock.crashes());
        trusted_from(began, restarts, others_crash)
    }

    /// The pod that a sandbox's status names.
    fn told_of(&self, sandbox: &Uid) -> Option<&str> {
        self.sandbox_of(sandbox)?.status.pod_name.as_deref()
    }

    /// A pod is no longer a sandbox's.
    fn free(&mut self, sandbox: &Uid, pod: &Key) {
        let is_named = self.told_of(sandbox).is_some();
        self.claims.freed(sandbox, pod, is_named);
    }

    /// Whether a pod stays with the living sandbox that it names: the sandbox has it, or has not
    /// been told yet which of several it has.
    pub(crate) fn keeps(&self, sandbox: &Uid, pod: &Key) -> bool {
        self.sandbox_by_uid.contains_key(sandbox)
            && (self.claims.pod_of(sandbox) == Some(pod) || self.told_of(sandbox).is_none())
    }

    /// Whether a pod of this name is known to be this very one. The answer to a write may come
    /// after the watch has told that its object is gone.
    pub(crate) fn knows_pod(&self, key: &Key, uid: Option<&str>) -> bool {
        self.pods
            .get(key)
            .is_some_and(|known| Some(&*known.uid) == uid)
    }

    /// The same of a sandbox.
    pub(crate) fn knows_sandbox(&self, key: &Key, uid: Option<&str>) -> bool {
        self.sandboxes
            .get(key)
            .is_some_and(|known| Some(&*known.uid) == uid)
    }

    /// What was under way about a pod has ended, well or not: it is as free as it was last seen.
    pub(crate) fn settle_pod(&mut self, key: &Key) {
        if let Some(entry) = self.pods.get_mut(key) {
            entry.busy = false;
        }
        self.reshelve(key);
    }

    /// Puts a pod on its pool's shelf, or takes it off, as it was last seen.
    pub(crate) fn reshelve(&mut self, key: &Key) {
        if let Some(entry) = self.pods.remove(key) {
            self.shelve(&entry);
            self.marks.pool(&entry.pool);
            self.pods.insert(key.clone(), entry);
        }
    }

    /// A claim was refused. The pod goes back on the shelf if it has been seen anew since.
    pub(crate) fn unclaim(&mut self, pod: &Key, revision: u64) {
        let Some(entry) = self.pods.get(pod) else {
            return;
        };
        let is_news = entry.revision > revision;
        if let Some(shelf) = self.shelves.get_mut(&entry.pool) {
            shelf.take(pod);
        }
        if is_news {
            self.reshelve(pod);
        }
    }

    /// A pod is gone.
    pub(crate) fn lose_pod(&mut self, key: &Key) {
        if let Some(entry) = self.pods.get(key) {
            let uid = entry.uid.clone();
            self.forget_pod(key, &uid);
        }
    }

    fn forget_pod(&mut self, key: &Key, uid: &Uid) {
        let Some(entry) = self.pods.remove(key) else {
            return;
        };
        debug_assert_eq!(&entry.uid, uid);
        if let Some(pods) = self.pods_of_pool.get_mut(&entry.pool) {
            pods.remove(key);
            if pods.is_empty() {
                self.pods_of_pool.remove(&entry.pool);
            }
        }
        if let Some(claim) = &entry.claim {
            self.free(claim, key);
        }
        if let Some(shelf) = self.shelves.get_mut(&entry.pool) {
            shelf.take(key);
        }
        self.marks.pool(&entry.pool);
        self.mark_claimant(&entry);
    }

    /// A sandbox is seen.
    pub(crate) fn see_sandbox(&mut self, sandbox: &Sandbox, now: Timestamp) {
        let Some(key) = Key::of(&sandbox.metadata) else {
            return;
        };
        let Some(entry) = SandboxEntry::read(&key, sandbox, self.sandboxes.get(&key), now) else {
            return;
        };
        if let Some(old) = self.sandboxes.get(&key) {
            let pool_before = old.pool.clone();
            if old.uid != entry.uid {
                self.lose_sandbox(&key);
            } else if pool_before != entry.pool {
                // Who stood in two lines would be given two pods.
                self.leave_line(&pool_before, &key);
            }
        }
        if let Some(pod) = &entry.status.pod_name {
            self.claims.named(&entry.uid, &key.beside(pod));
            for rival in self.claims.rivals_of(&entry.uid) {
                self.marks.pod(rival);
            }
        }
        self.sandbox_by_uid.insert(entry.uid.clone(), key.clone());
        self.sandboxes.insert(key.clone(), entry);
        self.marks.sandbox(&key);
        self.mark_tasks(&key);
    }

    /// A sandbox is gone.
    pub(crate) fn lose_sandbox(&mut self, key: &Key) {
        let Some(entry) = self.sandboxes.remove(key) else {
            return;
        };
        self.sandbox_by_uid.remove(&entry.uid);
        self.leave_line(&entry.pool, key);
        for pod in self.claims.all_of(&entry.uid) {
            self.marks.pod(pod);
        }
        self.marks.pool(&entry.pool);
        self.mark_tasks(key);
    }

    /// A task is seen.
    pub(crate) fn see_task(&mut self, task: &Task) {
        let Some(key) = Key::of(&task.metadata) else {
            return;
        };
        let Some(entry) = TaskEntry::read(&key, task, self.tasks.get(&key)) else {
            return;
        };
        if self.tasks.get(&key).is_some_and(|old| old.uid != entry.uid) {
            self.lose_task(&key);
        }
        let place = (entry.seniority, key.clone());
        if entry.is_finished() {
            if let Some(ended) = entry.ended
                && let Some(sandbox) = self.sandboxes.get_mut(&entry.sandbox)
            {
                sandbox.task_ended(ended);
            }
            self.leave_queue(&entry.sandbox.clone(), &place);
        } else {
            self.unfinished
                .entry(entry.sandbox.clone())
                .or_default()
                .insert(place);
        }
        self.marks.task(&key);
        self.marks.sandbox(&entry.sandbox);
        self.tasks.insert(key, entry);
    }

    /// A task is gone.
    pub(crate) fn lose_task(&mut self, key: &Key) {
        let Some(entry) = self.tasks.remove(key) else {
            return;
        };
        self.leave_queue(&entry.sandbox.clone(), &(entry.seniority, key.clone()));
        self.marks.sandbox(&entry.sandbox);
        self.marks.gone_task(key);
    }

    fn leave_queue(&mut self, sandbox: &Key, place: &(Seniority, Key)) {
        let Some(queue) = self.unfinished.get_mut(sandbox) else {
            return;
        };
        if queue.remove(place) {
            if let Some((_, next)) = queue.first() {
                self.marks.task(next);
            }
            if queue.is_empty() {
                self.unfinished.remove(sandbox);
            }
        }
    }

    /// A sandbox no longer waits for a pod.
    pub(crate) fn leave_line(&mut self, pool: &Key, sandbox: &Key) {
        if let Some(shelf) = self.shelves.get_mut(pool) {
            shelf.leave(sandbox);
            if shelf.is_empty() && !self.pools.contains_key(pool) {
                self.shelves.remove(pool);
            }
        }
    }

    /// The pods of a pool.
    pub(crate) fn pods_of(&self, pool: &Key) -> impl Iterator<Item = &PodEntry> {
        let keys = self.pods_of_pool.get(pool).into_iter().flatten();
        keys.filter_map(|key| self.pods.get(key))
    }

    /// Whether a sandbox is to be given a pod: it has none, none is on its way, and it goes on.
    pub(crate) fn needs_pod(&self, sandbox: &SandboxEntry) -> bool {
        !sandbox.leaving
            && !sandbox.claiming
            && sandbox.writing != Some(Writing::End)
            && sandbox.status.pod_name.is_none()
            && !matches!(
                sandbox.status.phase,
                Some(SandboxPhase::Released | SandboxPhase::Failed)
            )
            && self.pod_of(&sandbox.uid).is_none()
    }

    /// The pod that was given to a sandbox.
    pub(crate) fn pod_of(&self, sandbox: &Uid) -> Option<&PodEntry> {
        self.pods.get(self.claims.pod_of(sandbox)?)
    }

    /// What the sandbox with this uid is called.
    pub(crate) fn sandbox_key(&self, uid: &Uid) -> Option<&Key> {
        self.sandbox_by_uid.get(uid)
    }

    /// The sandbox with this uid.
    pub(crate) fn sandbox_of(&self, uid: &Uid) -> Option<&SandboxEntry> {
        self.sandboxes.get(self.sandbox_by_uid.get(uid)?)
    }

    /// The unfinished tasks of a sandbox, the one made first in front.
    pub(crate) fn queue(&self, sandbox: &Key) -> impl Iterator<Item = &Key> {
        self.unfinished
            .get(sandbox)
            .into_iter()
            .flatten()
            .map(|(_, key)| key)
    }

    /// Taken pods whose sandbox is gone: what a crash between two writes, or a sandbox deleted
    /// while nobody watched, leaves behind. Only meaningful once everything has been listed.
    pub(crate) fn mark_orphans(&mut self) {
        for (key, pod) in &self.pods {
            if let Some(claim) = &pod.claim
                && !self.sandbox_by_uid.contains_key(claim)
            {
                self.marks.pod(key);
            }
        }
    }

    fn mark_claimant(&mut self, pod: &PodEntry) {
        let Some(claim) = &pod.claim else { return };
        match self.sandbox_by_uid.get(claim) {
            Some(sandbox) => {
                self.marks.sandbox(sandbox);
                if self.claims.pod_of(claim) != Some(&pod.key) {
                    self.marks.pod(&pod.key);
                }
            }
            None => self.marks.pod(&pod.key),
        }
    }

    fn mark_tasks(&mut self, sandbox: &Key) {
        if let Some(queue) = self.unfinished.get(sandbox) {
            for (_, task) in queue {
                self.marks.task(task);
            }
        }
    }

    /// Whoever waits for a pod of this pool is looked at again.
    pub(crate) fn mark_waiting(&mut self, pool: &Key) {
        if let Some(shelf) = self.shelves.get(pool) {
            for sandbox in shelf.claimants() {
                self.marks.sandbox(sandbox);
            }
        }
    }
}

#[cfg(test)]
mod tests;
