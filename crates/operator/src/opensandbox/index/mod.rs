//! What the operator knows of pools, their pods, and batches.
//!
//! Who has which pod of a pool stands in the batches' annotations, and nowhere else: giving a
//! hundred pods to a batch is one write. In memory each given pod knows its batch, so that none
//! is given twice.

mod batch;
mod images;
mod made;
mod pod;
mod pool;
mod snapshot;

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use sandlot_api::opensandbox::{BatchSandbox, Pool, SandboxSnapshot};
use sandlot_decide::{batch::Profile, pool::Use, shelf::Shelf};

use images::images_of;

pub(crate) use batch::{BatchEntry, Refused, write_list};
pub(crate) use made::Made;
pub(crate) use pod::{Executor, Origin, PodEntry};
pub(crate) use pool::PoolEntry;
pub(crate) use snapshot::SnapshotEntry;

use crate::index::{Key, Uid};

/// What has changed and wants to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) pools: BTreeSet<Key>,
    pub(crate) batches: BTreeSet<Key>,
    pub(crate) snapshots: BTreeSet<Key>,
    /// Pods that nobody has and no pool wants.
    pub(crate) strays: BTreeSet<Key>,
}

/// One picture of all that concerns pools and batches.
pub(crate) struct Index {
    pub(crate) pools: HashMap<Key, PoolEntry>,
    pub(crate) pods: HashMap<Key, PodEntry>,
    pub(crate) batches: HashMap<Key, BatchEntry>,
    pub(crate) snapshots: HashMap<Key, SnapshotEntry>,
    /// How a pool is chosen for batches that leave that open; or why none can be.
    pub(crate) profile: Result<Profile, String>,
    /// Images that something named which is gone.
    pub(crate) dropped_images: BTreeSet<String>,
    /// Shelves outlive their pools: batches may wait for a pool that is yet to come.
    pub(crate) shelves: HashMap<Key, Shelf<Key, Key>>,
    pub(crate) marks: Marks,
    /// Which batch has a pod, or has not given it back yet.
    holders: HashMap<Key, Key>,
    pods_of_pool: HashMap<Key, HashSet<Key>>,
    pods_of_batch: HashMap<Key, HashSet<Key>>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            pools: HashMap::new(),
            pods: HashMap::new(),
            batches: HashMap::new(),
            snapshots: HashMap::new(),
            profile: Ok(Profile::default()),
            dropped_images: BTreeSet::new(),
            shelves: HashMap::new(),
            marks: Marks::default(),
            holders: HashMap::new(),
            pods_of_pool: HashMap::new(),
            pods_of_batch: HashMap::new(),
        }
    }
}

impl Index {
    /// A pool is seen.
    pub(crate) fn see_pool(&mut self, pool: &Pool) {
        let Some(key) = Key::of(&pool.metadata) else {
            return;
        };
        let Some(entry) = PoolEntry::read(&key, pool, self.pools.get(&key)) else {
            return;
        };
        let old = self.pools.insert(key.clone(), entry);
        if old.map(|old| old.uid) != self.pools.get(&key).map(|new| new.uid.clone()) {
            self.sort_pods_of(&key);
        }
        self.mark_waiting(&key);
        self.marks.pools.insert(key);
    }

    /// Puts the pods of a pool that has just come on its shelf; one that bears its name and is of
    /// the pool before it is nobody's.
    fn sort_pods_of(&mut self, pool: &Key) {
        let pods = self.pods_of_pool.get(pool).into_iter().flatten();
        for pod in pods.cloned().collect::<Vec<_>>() {
            self.shelve(&pod);
            self.marks.strays.insert(pod);
        }
    }

    /// The pool that a pod is of: the one that owns it, not just any of that name.
    pub(crate) fn home(&self, pod: &PodEntry) -> Option<&PoolEntry> {
        let pool = self.pools.get(pod.pool()?)?;
        (pod.owner.as_ref() == Some(&pool.uid)).then_some(pool)
    }

    /// A pool is gone: what is left of its pods is nobody's.
    pub(crate) fn lose_pool(&mut self, key: &Key) {
        if self.pools.remove(key).is_some() {
            self.mark_waiting(key);
            let pods = self.pods_of_pool.get(key).into_iter().flatten();
            self.marks.strays.extend(pods.cloned());
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
        if self.pods.get(&key).is_some_and(|old| old.uid != entry.uid) {
            self.lose_pod(&key);
        }
        match &entry.origin {
            Origin::Pool { pool, .. } => {
                if let Some(found) = self.pools.get_mut(pool) {
                    found.stock.answered(&entry.facts.name);
                }
                self.pods_of_pool
                    .entry(pool.clone())
                    .or_default()
                    .insert(key.clone());
                self.marks.pools.insert(pool.clone());
                if self.home(&entry).is_none() {
                    self.marks.strays.insert(key.clone());
                }
            }
            Origin::Batch { batch, index } => {
                if let Some(found) = self.batches.get_mut(batch) {
                    found.making.remove(index);
                }
                self.pods_of_batch
                    .entry(batch.clone())
                    .or_default()
                    .insert(key.clone());
                self.marks.batches.insert(batch.clone());
            }
        }
        if let Some(batch) = self.holders.get(&key) {
            self.marks.batches.insert(batch.clone());
        }
        self.pods.insert(key.clone(), entry);
        self.shelve(&key);
    }

    /// Puts a pod on its pool's shelf, or takes it off, as it is now.
    pub(crate) fn shelve(&mut self, key: &Key) {
        let Some(entry) = self.pods.get(key) else {
            return;
        };
        let Some(pool) = entry.pool() else { return };
        let given = self.holders.contains_key(key);
        let free = !given && !entry.facts.evict && self.home(entry).is_some();
        let shelf = self.shelves.entry(pool.clone()).or_default();
        match entry.ready_since().filter(|_| free) {
            Some(since) => shelf.put(key.clone(), since),
            None => shelf.take(key),
        }
    }

    /// A pod is gone.
    pub(crate) fn lose_pod(&mut self, key: &Key) {
        let Some(entry) = self.pods.remove(key) else {
            return;
        };
        match &entry.origin {
            Origin::Pool { pool, .. } => {
                if let Some(pods) = self.pods_of_pool.get_mut(pool) {
                    pods.remove(key);
                    if pods.is_empty() {
                        self.pods_of_pool.remove(pool);
                    }
                }
                if let Some(shelf) = self.shelves.get_mut(pool) {
                    shelf.take(key);
                }
                self.marks.pools.insert(pool.clone());
            }
            Origin::Batch { batch, .. } => {
                if let Some(pods) = self.pods_of_batch.get_mut(batch) {
                    pods.remove(key);
                    if pods.is_empty() {
                        self.pods_of_batch.remove(batch);
                    }
                }
                self.marks.batches.insert(batch.clone());
            }
        }
        if let Some(batch) = self.holders.get(key) {
            self.marks.batches.insert(batch.clone());
        }
    }

    /// A batch is seen.
    pub(crate) fn see_batch(&mut self, batch: &BatchSandbox) {
        let Some(key) = Key::of(&batch.metadata) else {
            return;
        };
        let Some(uid) = batch.metadata.uid.as_deref().map(Uid::from) else {
            return;
        };
        if self.batches.get(&key).is_some_and(|old| old.uid != uid) {
            self.lose_batch(&key);
        }
        let entry = self
            .batches
            .entry(key.clone())
            .or_insert_with(|| BatchEntry::new(uid, batch));
        let (before, spec) = (entry.pool(&key), entry.spec.clone());
        entry.see(batch);
        if entry.spec.template != spec.template {
            let old = spec.template.iter();
            self.dropped_images.extend(old.flat_map(images_of));
        }
        let after = entry.pool(&key);
        // It waits at one pool at a time.
        if let Some(before) = before.filter(|before| after.as_ref() != Some(before)) {
            self.leave_line(&before, &key);
        }
        self.hold(&key);
        self.marks.batches.insert(key);
    }

    /// Notes which pods a batch has. If two batches name one pod, which only a crash of two
    /// operators at once can bring about, the older batch keeps it.
    fn hold(&mut self, key: &Key) {
        let Some(entry) = self.batches.get(key) else {
            return;
        };
        let (own, seniority) = (
            entry.slots.held().cloned().collect::<Vec<_>>(),
            entry.seniority,
        );
        for name in own {
            let pod = key.beside(&name);
            let rival = self
                .holders
                .get(&pod)
                .filter(|rival| *rival != key)
                .cloned();
            let older = rival.as_ref().and_then(|rival| {
                let rival = self.batches.get(rival)?;
                Some(rival.seniority < seniority)
            });
            let loser = match older {
                Some(true) => Some(key.clone()),
                Some(false) => rival,
                None => None,
            };
            if let Some(loser) = loser {
                tracing::warn!(%pod, batch = %loser, "two batches name one pod: the younger gives it up");
                if let Some(entry) = self.batches.get_mut(&loser) {
                    entry.slots.vacate(&name);
                }
                self.marks.batches.insert(loser.clone());
                if loser == *key {
                    continue;
                }
            }
            self.take_pod(&pod, key);
        }
    }

    /// A batch has this pod from now on.
    pub(crate) fn take_pod(&mut self, pod: &Key, batch: &Key) {
        self.holders.insert(pod.clone(), batch.clone());
        self.shelve(pod);
    }

    /// Nobody has this pod any more.
    pub(crate) fn free_pod(&mut self, pod: &Key) {
        self.holders.remove(pod);
        self.shelve(pod);
        if let Some(entry) = self.pods.get(pod)
            && let Some(pool) = entry.pool()
        {
            match self.home(entry) {
                Some(_) => self.marks.pools.insert(pool.clone()),
                None => self.marks.strays.insert(pod.clone()),
            };
        }
    }

    /// A batch is gone. The pods it had without giving them back are strays.
    pub(crate) fn lose_batch(&mut self, key: &Key) {
        let Some(entry) = self.batches.remove(key) else {
            return;
        };
        let template = entry.spec.template.as_ref();
        self.dropped_images
            .extend(template.into_iter().flat_map(images_of));
        if let Some(pool) = entry.pool(key) {
            self.leave_line(&pool, key);
            self.marks.pools.insert(pool);
        }
        for name in entry.slots.held() {
            self.marks.strays.insert(key.beside(name));
        }
    }

    /// A snapshot is seen.
    pub(crate) fn see_snapshot(&mut self, snapshot: &SandboxSnapshot) {
        let Some(key) = Key::of(&snapshot.metadata) else {
            return;
        };
        let Some(entry) = SnapshotEntry::read(snapshot, self.snapshots.get(&key)) else {
            return;
        };
        self.marks
            .batches
            .insert(key.beside(&entry.spec.sandbox_name));
        self.snapshots.insert(key.clone(), entry);
        self.marks.snapshots.insert(key);
    }

    /// A snapshot is gone.
    pub(crate) fn lose_snapshot(&mut self, key: &Key) {
        let Some(entry) = self.snapshots.remove(key) else {
            return;
        };
        if let Some(saving) = &entry.saving {
            saving.cancel();
        }
        let images = entry.status.containers.iter();
        self.dropped_images
            .extend(images.map(|saved| saved.image_uri.clone()));
        self.marks
            .batches
            .insert(key.beside(&entry.spec.sandbox_name));
    }

    /// A batch no longer waits for pods.
    pub(crate) fn leave_line(&mut self, pool: &Key, batch: &Key) {
        if let Some(shelf) = self.shelves.get_mut(pool) {
            shelf.leave(batch);
            if shelf.is_empty() && !self.pools.contains_key(pool) {
                self.shelves.remove(pool);
            }
        }
    }

    /// The batch that has a pod.
    pub(crate) fn holder(&self, pod: &Key) -> Option<&Key> {
        self.holders.get(pod)
    }

    /// The pods that a pool made and still owns.
    pub(crate) fn pods_of<'a>(
        &'a self,
        pool: &Key,
        uid: &'a Uid,
    ) -> impl Iterator<Item = &'a PodEntry> {
        let keys = self.pods_of_pool.get(pool).into_iter().flatten();
        keys.filter_map(|key| self.pods.get(key))
            .filter(move |pod| pod.owner.as_ref() == Some(uid))
    }

    /// The pods that a batch of this name made.
    pub(crate) fn pods_of_batch(&self, batch: &Key) -> impl Iterator<Item = &PodEntry> {
        let keys = self.pods_of_batch.get(batch).into_iter().flatten();
        keys.filter_map(|key| self.pods.get(key))
    }

    /// Whether somebody has this pod.
    pub(crate) fn use_of(&self, pod: &Key) -> Use {
        match self.holders.contains_key(pod) {
            true => Use::Taken,
            false => Use::Idle,
        }
    }

    /// The pod of a batch at an index, if it is there.
    pub(crate) fn pod_at(&self, key: &Key, batch: &BatchEntry, index: usize) -> Option<&PodEntry> {
        let name = match batch.slots.at(index) {
            Some(name) => name.clone(),
            None if batch.slots.is_done(index) => return None,
            None => BatchEntry::own_pod(key, index),
        };
        let pod = self.pods.get(&key.beside(&name))?;
        match &pod.origin {
            Origin::Pool { .. } => batch.slots.at(index).map(|_| pod),
            Origin::Batch { batch: owner, .. } => {
                (owner == key && pod.owner.as_ref() == Some(&batch.uid)).then_some(pod)
            }
        }
    }

    /// Marks what may have happened while nobody watched: pods that no pool and no batch has.
    /// Only meaningful once everything has been listed.
    pub(crate) fn mark_strays(&mut self) {
        for (key, pod) in &self.pods {
            if pod.pool().is_some() && self.home(pod).is_none() {
                self.marks.strays.insert(key.clone());
            }
        }
    }

    fn mark_waiting(&mut self, pool: &Key) {
        if let Some(shelf) = self.shelves.get(pool) {
            self.marks.batches.extend(shelf.claimants().cloned());
        }
    }
}
