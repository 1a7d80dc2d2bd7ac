//! What to look at again, and when.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::Duration,
};

use jiff::Timestamp;
use sandlot_decide::{backoff::Backoff, expiry::later};

/// Waits between attempts at a write that fails.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(30),
};

/// Times to look again: one for each thing, the earliest asked for.
#[derive(Debug)]
pub(crate) struct Wakes<W> {
    order: BTreeSet<(Timestamp, W)>,
    due: HashMap<W, Timestamp>,
    failures: HashMap<W, u32>,
}

impl<W> Default for Wakes<W> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        }
    }
}

impl<W: Clone + Ord + Hash> Wakes<W> {
    /// Look at this again, no later than then.
    pub(crate) fn at(&mut self, when: Timestamp, wake: W) {
        if let Some(known) = self.due.get(&wake) {
            if *known <= when {
                return;
            }
            self.order.remove(&(*known, wake.clone()));
        }
        self.due.insert(wake.clone(), when);
        self.order.insert((when, wake));
    }

    /// A write about this has failed: look again, each time later. When, is returned.
    pub(crate) fn failed(&mut self, what: W, now: Timestamp) -> Timestamp {
        let failures = self.failures.entry(what.clone()).or_default();
        *failures = failures.saturating_add(1);
        let when = later(now, RETRY.after(*failures));
        self.at(when, what);
        when
    }

    /// A write about this has succeeded, or there is nothing left to write about.
    pub(crate) fn succeeded(&mut self, what: &W) {
        self.failures.remove(what);
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(when, _)| *when)
    }

    /// Takes something that is due.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<W> {
        self.order.first().filter(|(when, _)| *when <= now)?;
        let (_, wake) = self.order.pop_first()?;
        self.due.remove(&wake);
        Some(wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_earliest_time_asked_for_counts_and_rings_once() {
        let mut wakes = Wakes::default();
        wakes.at(at(5), "a");
        wakes.at(at(9), "a");
        wakes.at(at(3), "a");
        assert_eq!(wakes.next(), Some(at(3)));
        assert_eq!(wakes.take_due(at(2)), None);
        assert_eq!(wakes.take_due(at(3)), Some("a"));
        assert_eq!(wakes.next(), None);
    }

    #[test]
    fn what_fails_again_and_again_is_looked_at_ever_later() {
        let mut wakes = Wakes::default();
        let waits: Vec<_> = (0..3)
            .map(|_| {
                wakes.failed("a", at(0));
                let next = wakes.next().unwrap();
                assert_eq!(wakes.take_due(next), Some("a"));
                next
            })
            .collect();
        assert!(waits.is_sorted() && waits[0] < waits[2], "{waits:?}");
        wakes.succeeded(&"a");
        wakes.failed("a", at(0));
        assert_eq!(wakes.next(), Some(waits[0]), "it begins anew");
    }
}
