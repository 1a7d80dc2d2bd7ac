//! Which ready pod goes to which waiting claim.
//!
//! One shelf per pool: ready pods on one side, waiting claims on the other. The pod that has been
//! ready longest goes to the claim that has waited longest. A pod handed out is *assumed* taken
//! from that moment, before the write that makes it so is confirmed; if the write fails the pod
//! leaves the shelf until it is seen ready again, and the claim keeps its place in the line.
//!
//! A pod that has crashed is ready for a moment before it crashes again. Such a pod stands beside
//! the shelf until it has stood for a while.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    time::Duration,
};

use jiff::Timestamp;

use crate::{Seniority, expiry::later};

/// How many of those in front of a claimant are counted: a long line is looked at by many.
const COUNTED: usize = 100;
/// How long a pod must have stood before it is trusted again.
const PROOF: Duration = Duration::from_secs(10);

/// From when on a pod may be given out whose last container began then: at once, unless it has
/// crashed before or others of its pool just have.
pub fn trusted_from(began: Timestamp, restarts: u32, others_crash: bool) -> Option<Timestamp> {
    (restarts > 0 || others_crash).then(|| later(began, PROOF))
}

/// Where a pod that is ready stands.
#[derive(Clone, Copy, Debug)]
struct Standing {
    ready_since: Timestamp,
    /// Beside the shelf until then; on it without.
    until: Option<Timestamp>,
}

/// Ready pods and waiting claims of one pool. `P` names a pod, `C` a claimant.
#[derive(Debug)]
pub struct Shelf<P, C> {
    ready: BTreeSet<(Timestamp, P)>,
    /// Pods that are ready and not trusted before then.
    proving: BTreeSet<(Timestamp, P)>,
    standing: HashMap<P, Standing>,
    waiting: BTreeMap<(Seniority, C), u32>,
    place: HashMap<C, Seniority>,
    assumed: HashMap<P, C>,
}

impl<P, C> Default for Shelf<P, C> {
    fn default() -> Self {
        Self {
            ready: BTreeSet::new(),
            proving: BTreeSet::new(),
            standing: HashMap::new(),
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
        self.stand(pod, ready_since, None);
    }

    /// A pod is seen ready and free, and is not to be given out before then.
    pub fn prove(&mut self, pod: P, ready_since: Timestamp, until: Timestamp) {
        self.stand(pod, ready_since, Some(until));
    }

    /// Puts the pods on the shelf that have stood long enough. Says when the next will have.
    pub fn trust(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some((until, _)) = self.proving.first() {
            if *until > now {
                return Some(*until);
            }
            if let Some((_, pod)) = self.proving.pop_first()
                && let Some(standing) = self.standing.get_mut(&pod)
            {
                standing.until = None;
                self.ready.insert((standing.ready_since, pod));
            }
        }
        None
    }

    /// Whether a pod is ready and not trusted yet.
    pub fn is_proving(&self, pod: &P) -> bool {
        let standing = self.standing.get(pod);
        standing.is_some_and(|standing| standing.until.is_some())
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
        let (_, pod) = self.ready.pop_first()?;
        let claimant = first.key().1.clone();
        if *first.get() > 1 {
            *first.get_mut() -= 1;
        } else {
            first.remove();
            self.place.remove(&claimant);
        }
        self.standing.remove(&pod);
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

    /// Whether any pod is.
    pub fn is_giving(&self) -> bool {
        !self.assumed.is_empty()
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
        self.standing.is_empty() && self.waiting.is_empty() && self.assumed.is_empty()
    }

    fn stand(&mut self, pod: P, ready_since: Timestamp, until: Option<Timestamp>) {
        if self.assumed.contains_key(&pod) {
            return;
        }
        self.lift(&pod);
        let standing = Standing { ready_since, until };
        self.standing.insert(pod.clone(), standing);
        match until {
            Some(until) => self.proving.insert((until, pod)),
            None => self.ready.insert((ready_since, pod)),
        };
    }

    fn lift(&mut self, pod: &P) {
        match self.standing.remove(pod) {
            Some(Standing {
                until: Some(until), ..
            }) => self.proving.remove(&(until, pod.clone())),
            Some(standing) => self.ready.remove(&(standing.ready_since, pod.clone())),
            None => false,
        };
    }
}
