//! How much of the past is kept: enough revisions, for long enough, in bounded memory.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::config::Config;

/// What an event costs beside the bytes that it alone holds: the event, a record, its key.
const EVENT_OVERHEAD: usize = 256;

/// The order of all remembered events over all kinds, and what they weigh.
///
/// The events themselves lie with their kind. Nothing is kept across restarts: every write
/// would go to disk twice, and a client that finds its revision expired just lists again.
pub(crate) struct History {
    revisions: usize,
    age: Duration,
    budget: usize,
    marks: VecDeque<Mark>,
    held: usize,
}

/// Stands for one remembered event.
struct Mark {
    revision: u64,
    kind: Arc<str>,
    at: Instant,
    weight: usize,
}

impl History {
    pub(crate) fn new(config: &Config) -> Self {
        History {
            revisions: config.history_revisions,
            age: config.history_age,
            budget: config.history_bytes,
            marks: VecDeque::new(),
            held: 0,
        }
    }

    /// Remembers an event that happened now and keeps so many bytes alive that nothing else does.
    pub(crate) fn remember(&mut self, revision: u64, kind: Arc<str>, bytes: usize, now: Instant) {
        let weight = bytes + EVENT_OVERHEAD;
        self.held += weight;
        self.marks.push_back(Mark {
            revision,
            kind,
            at: now,
            weight,
        });
    }

    /// Takes out the oldest event if it may be forgotten, and says of which kind it was.
    pub(crate) fn forget(&mut self, now: Instant) -> Option<Arc<str>> {
        let oldest = self.marks.front()?;
        let surplus = self.marks.len() > self.revisions;
        let stale = now.saturating_duration_since(oldest.at) > self.age;
        if !(surplus && stale || self.held > self.budget) {
            return None;
        }
        let oldest = self.marks.pop_front()?;
        self.held -= oldest.weight;
        Some(oldest.kind)
    }

    /// Of which kind the event with a revision is, and the revision of the one after it, or 0.
    pub(crate) fn find(&self, revision: u64) -> Option<(&Arc<str>, u64)> {
        let index = self
            .marks
            .binary_search_by_key(&revision, |mark| mark.revision)
            .ok()?;
        let next = self.marks.get(index + 1).map_or(0, |mark| mark.revision);
        Some((&self.marks[index].kind, next))
    }

    /// How many events are remembered.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    /// How many bytes they hold that nothing else does.
    pub(crate) fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(revisions: usize, age: u64, budget: usize) -> History {
        History::new(&Config {
            history_revisions: revisions,
            history_age: Duration::from_secs(age),
            history_bytes: budget,
            ..Config::in_memory()
        })
    }

    fn kept(history: &mut History, now: Instant) -> usize {
        while history.forget(now).is_some() {}
        history.len()
    }

    #[test]
    fn events_are_kept_while_they_are_young_even_when_they_are_many() {
        let start = Instant::now();
        let mut history = history(3, 60, usize::MAX);
        for second in 0..10 {
            history.remember(second, "a".into(), 1, start + Duration::from_secs(second));
        }
        assert_eq!(kept(&mut history, start + Duration::from_secs(60)), 10);
        assert_eq!(kept(&mut history, start + Duration::from_secs(65)), 5);
    }

    #[test]
    fn events_are_kept_while_they_are_few_even_when_they_are_old() {
        let start = Instant::now();
        let mut history = history(3, 60, usize::MAX);
        for revision in 0..10 {
            history.remember(revision, "a".into(), 1, start);
        }
        assert_eq!(kept(&mut history, start + Duration::from_secs(3600)), 3);
    }

    #[test]
    fn memory_is_bounded_whatever_else_was_asked_for() {
        let start = Instant::now();
        let mut history = history(1000, 60, 10_000);
        for revision in 0..100 {
            history.remember(revision, "a".into(), 1000, start);
        }
        assert_eq!(kept(&mut history, start), 10_000 / (1000 + EVENT_OVERHEAD));
        assert!(history.held() <= 10_000);
    }
}
