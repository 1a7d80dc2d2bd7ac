//! What to look at again, and when.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use jiff::Timestamp;

use crate::index::{Key, Marks};

/// Something to look at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wake {
    Pool(Key),
    Sandbox(Key),
    Task(Key),
    Pod(Key),
}

/// Times to look again: one for each thing, the earliest asked for.
#[derive(Debug)]
pub(crate) struct Wakes<W = Wake> {
    order: BTreeSet<(Timestamp, W)>,
    due: HashMap<W, Timestamp>,
}

impl<W> Default for Wakes<W> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            due: HashMap::new(),
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

impl Wakes {
    /// Marks what is due.
    pub(crate) fn ring(&mut self, now: Timestamp, marks: &mut Marks) {
        while let Some(wake) = self.take_due(now) {
            match wake {
                Wake::Pool(key) => marks.pool(&key),
                Wake::Sandbox(key) => marks.sandbox(&key),
                Wake::Task(key) => marks.task(&key),
                Wake::Pod(key) => marks.pod(&key),
            }
        }
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
        let key = Key {
            namespace: "n".into(),
            name: "a".into(),
        };
        let (mut wakes, mut marks) = (Wakes::default(), Marks::default());
        wakes.at(at(5), Wake::Task(key.clone()));
        wakes.at(at(9), Wake::Task(key.clone()));
        wakes.at(at(3), Wake::Task(key.clone()));
        assert_eq!(wakes.next(), Some(at(3)));
        wakes.ring(at(2), &mut marks);
        assert!(marks.tasks.is_empty());
        wakes.ring(at(3), &mut marks);
        assert!(marks.tasks.contains(&key));
        assert_eq!(wakes.next(), None);
    }
}
