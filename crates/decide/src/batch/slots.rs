//! Which pods a batch has been given, by index.
//!
//! A pod keeps its index for as long as the batch has it, so that the i-th address, the i-th
//! task and the i-th pod are always of one sandbox. A pod that is lost leaves its name behind
//! until another takes its place; one that is given back keeps its index empty.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// The pods of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// The pool's pods by index; an empty name where there never was one.
    given: Vec<Arc<str>>,
    /// Pods on their way back.
    release: BTreeSet<Arc<str>>,
    /// Pods that have arrived back.
    released: BTreeSet<Arc<str>>,
}

impl Slots {
    /// What was written down: the pods given, those to be given back, those taken back.
    pub fn new(
        given: Vec<Arc<str>>,
        release: impl IntoIterator<Item = Arc<str>>,
        released: impl IntoIterator<Item = Arc<str>>,
    ) -> Self {
        let mut seen = HashSet::new();
        let once = |name: Arc<str>| match seen.insert(name.clone()) {
            true => name,
            false => Arc::from(""),
        };
        Self {
            given: given.into_iter().map(once).collect(),
            release: release.into_iter().collect(),
            released: released.into_iter().collect(),
        }
    }

    /// The pod at an index, unless it is on its way back.
    pub fn at(&self, index: usize) -> Option<&Arc<str>> {
        self.given
            .get(index)
            .filter(|name| !name.is_empty() && !self.release.contains(*name))
    }

    /// Where a pod is.
    pub fn index_of(&self, pod: &str) -> Option<usize> {
        self.given.iter().position(|name| **name == *pod)
    }

    /// Whether the index had a pod that was given back for good: it wants no other.
    pub fn is_done(&self, index: usize) -> bool {
        self.given
            .get(index)
            .is_some_and(|name| !name.is_empty() && self.release.contains(name))
    }

    /// Whether this pod is given back, or on its way.
    pub fn is_releasing(&self, pod: &str) -> bool {
        self.release.contains(pod)
    }

    /// The indexes below `replicas` that want a pod: they never had one, or lost it.
    pub fn empty(&self, replicas: usize, is_there: impl Fn(&str) -> bool) -> Vec<usize> {
        let wants = |index: &usize| match self.given.get(*index) {
            None => true,
            Some(name) if name.is_empty() => true,
            Some(name) => !self.release.contains(name) && !is_there(name),
        };
        (0..replicas).filter(wants).collect()
    }

    /// Puts a pod at an index.
    pub fn fill(&mut self, index: usize, pod: Arc<str>) {
        if self.given.len() <= index {
            self.given.resize(index + 1, Arc::from(""));
        }
        self.release.remove(&pod);
        self.released.remove(&pod);
        self.given[index] = pod;
    }

    /// Forgets the pod at an index: it was somebody else's.
    pub fn vacate(&mut self, pod: &str) {
        for name in &mut self.given {
            if **name == *pod {
                *name = Arc::from("");
            }
        }
    }

    /// The pods at indexes that are too many, the highest index first.
    pub fn surplus(&self, replicas: usize) -> Vec<Arc<str>> {
        let above = self.given.iter().skip(replicas).rev();
        above
            .filter(|name| !name.is_empty() && !self.release.contains(*name))
            .cloned()
            .collect()
    }

    /// A pod is to go back.
    pub fn give_back(&mut self, pod: Arc<str>) {
        self.release.insert(pod);
    }

    /// A pod has arrived back.
    pub fn taken_back(&mut self, pod: &str) {
        if let Some(name) = self.release.get(pod).cloned() {
            self.released.insert(name);
        }
    }

    /// The pods that are on their way back and have not arrived.
    pub fn returning(&self) -> impl Iterator<Item = &Arc<str>> {
        self.release.difference(&self.released)
    }

    /// Every pod that is not anybody else's to use.
    pub fn held(&self) -> impl Iterator<Item = &Arc<str>> {
        self.given
            .iter()
            .filter(|name| !name.is_empty() && !self.released.contains(*name))
    }

    /// Drops what needs no remembering: indexes above `replicas` whose pods are back or gone, and
    /// names of pods that no index has any more. `is_kept` holds for names that are to stay.
    pub fn trim(
        &mut self,
        replicas: usize,
        is_there: impl Fn(&str) -> bool,
        is_kept: impl Fn(&str) -> bool,
    ) {
        while self.given.len() > replicas
            && let Some(last) = self.given.last()
            && (last.is_empty()
                || self.released.contains(last)
                || (!is_there(last) && !self.release.contains(last)))
        {
            self.given.pop();
        }
        let named: HashSet<Arc<str>> = self.given.iter().cloned().collect();
        self.released
            .retain(|name| named.contains(name) || is_kept(name));
        let released = &self.released;
        self.release
            .retain(|name| named.contains(name) || is_kept(name) || released.contains(name));
    }

    /// The pods given, by index.
    pub fn given(&self) -> &[Arc<str>] {
        &self.given
    }

    /// The pods on their way back or back, sorted.
    pub fn release(&self) -> &BTreeSet<Arc<str>> {
        &self.release
    }

    /// The pods that are back, sorted.
    pub fn released(&self) -> &BTreeSet<Arc<str>> {
        &self.released
    }
}
