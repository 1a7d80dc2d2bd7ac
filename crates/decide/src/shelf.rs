//! Which ready pod goes to which waiting claim.
//!
//! One shelf per pool: ready pods on one side, waiting claims on the other. The pod that has been
//! ready longest goes to the claim that has waited longest. A pod handed out is *assumed* taken
//! from that moment, before the write that makes it so is confirmed; if the write fails the pod
//! leaves the shelf until it is seen ready again, and the claim keeps its place in the line.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use jiff::Timestamp;

use crate::Seniority;

/// How many of those in front of a claimant are counted: a long line is looked at by many.
const COUNTED: usize = 100;

/// Ready pods and waiting claims of one pool. `P` names a pod, `C` a claimant.
#[derive(Debug)]
pub struct Shelf<P, C> {
    ready: BTreeMap<(Timestamp, P), ()>,
    since: HashMap<P, Timestamp>,
    waiting: BTreeMap<(Seniority, C), u32>,
    place: HashMap<C, Seniority>,
    assumed: HashMap<P, C>,
}

impl<P, C> Default for Shelf<P, C> {
    fn default() -> Self {
        Self {
            ready: BTreeMap::new(),
            since: HashMap::new(),
            waiting: BTreeMap::new(),
            place: HashMap::new(),
            assumed: HashMap::new(),
        }
    }
}

impl<P: Clone + Ord + Hash, C: Clone + Ord + Hash> Shelf<P, C> {
    /// A pod is seen ready and free. A pod that is assumed taken stays taken: what is seen may be
    /// older than the assumption.
    pub fn put(&mut self, pod: P, ready_since: Timestamp) {
        if self.assumed.contains_key(&pod) {
            return;
        }
        self.lift(&pod);
        self.since.insert(pod.clone(), ready_since);
        self.ready.insert((ready_since, pod), ());
    }

    /// A pod is no longer to be given out: it is taken for good, not ready, or gone.
    pub fn take(&mut self, pod: &P) {
        self.lift(pod);
        self.assumed.remove(pod);
    }

    /// A claimant waits for so many pods. Saying it again changes the number, not the place.
    pub fn wait(&mut self, claimant: C, seniority: Seniority, pods: u32) {
        let seniority = *self.place.entry(claimant.clone()).or_insert(seniority);
        if pods == 0 {
            self.leave(&claimant);
        } else {
            self.waiting.insert((seniority, claimant), pods);
        }
    }

    /// A claimant waits no more.
    pub fn leave(&mut self, claimant: &C) {
        if let Some(seniority) = self.place.remove(claimant) {
            self.waiting.remove(&(seniority, claimant.clone()));
        }
    }

    /// Hands the pod that has been ready longest to the claim that has waited longest.
    pub fn give(&mut self) -> Option<(P, C)> {
        let mut first = self.waiting.first_entry()?;
        let ((_, pod), ()) = self.ready.pop_first()?;
        let claimant = first.key().1.clone();
        if *first.get() > 1 {
            *first.get_mut() -= 1;
        } else {
            first.remove();
            self.place.remove(&claimant);
        }
        self.since.remove(&pod);
        self.assumed.insert(pod.clone(), claimant.clone());
        Some((pod, claimant))
    }

    /// The write that hands out a pod is confirmed.
    pub fn confirm(&mut self, pod: &P) {
        self.assumed.remove(pod);
    }

    /// Whether a pod is handed out and the write not yet confirmed.
    pub fn is_assumed(&self, pod: &P) -> bool {
        self.assumed.contains_key(pod)
    }

    /// How many pods are ready to be given out.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many pods the waiting claims still want.
    pub fn wanted(&self) -> u32 {
        self.waiting
            .values()
            .fold(0, |sum, pods| sum.saturating_add(*pods))
    }

    /// Who waits, the one first in line first.
    pub fn claimants(&self) -> impl Iterator<Item = &C> {
        self.waiting.keys().map(|(_, claimant)| claimant)
    }

    /// The place of a claimant in the line, counted in pods wanted by those before it. Far behind it
    /// is only told that it is: at least this many.
    pub fn ahead_of(&self, claimant: &C) -> Option<u32> {
        let place = *self.place.get(claimant)?;
        let before = self.waiting.range(..(place, claimant.clone()));
        let before = before.take(COUNTED);
        Some(before.fold(0, |sum, (_, pods)| sum.saturating_add(*pods)))
    }

    /// Whether nothing is on the shelf and nobody waits at it.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty() && self.assumed.is_empty()
    }

    fn lift(&mut self, pod: &P) {
        if let Some(since) = self.since.remove(pod) {
            self.ready.remove(&(since, pod.clone()));
        }
    }
}
