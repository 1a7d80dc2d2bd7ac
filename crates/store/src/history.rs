//! How much of the past is kept: enough revisions, for long enough, in bounded memory and disk.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::config::Config;

/// What an event costs beside the bytes that it alone holds: the event, a record, its key.
const EVENT_OVERHEAD: usize = 256;
/// How many bytes leave memory at once.
const ROUND: usize = 8 << 20;

/// The order of all remembered events over all kinds, and what they weigh.
///
/// The events themselves lie with their kind. Nothing is kept across restarts: every write
/// would go to disk twice, and a client that finds its revision expired just lists again.
pub(crate) struct History {
    revisions: usize,
    age: Duration,
    most: usize,
    budget: usize,
    disk_budget: u64,
    /// Whether there is a place beside memory.
    overflows: bool,
    marks: VecDeque<Mark>,
    /// So many of the oldest have their bytes there.
    moved: usize,
    /// The bytes in memory that nothing else holds.
    held: usize,
    on_disk: u64,
}

/// Stands for one remembered event.
struct Mark {
    revision: u64,
    kind: Arc<str>,
    at: Instant,
    bytes: usize,
}

impl History {
    pub(crate) fn new(config: &Config) -> Self {
        History {
            revisions: config.history_revisions,
            age: config.history_age,
            most: config.history_most,
            budget: config.history_bytes,
            disk_budget: config.history_disk_bytes,
            overflows: config.history_folder.is_some(),
            marks: VecDeque::new(),
            moved: 0,
            held: 0,
            on_disk: 0,
        }
    }

    /// Remembers an event that happened now and keeps so many bytes alive that nothing else does.
    pub(crate) fn remember(&mut self, revision: u64, kind: Arc<str>, bytes: usize, now: Instant) {
        self.held += bytes;
        self.marks.push_back(Mark {
            revision,
            kind,
            at: now,
            bytes,
        });
    }

    /// Takes out the oldest event if it may be forgotten, and says of which kind it was.
    pub(crate) fn forget(&mut self, now: Instant) -> Option<Arc<str>> {
        let oldest = self.marks.front()?;
        let surplus = self.marks.len() > self.revisions;
        let stale = now.saturating_duration_since(oldest.at) > self.age;
        let crowded = self.marks.len() > self.most
            || self.on_disk > self.disk_budget
            || !self.overflows && self.in_memory() > self.budget;
        if !(surplus && stale || crowded) {
            return None;
        }
        let oldest = self.marks.pop_front()?;
        match self.moved.checked_sub(1) {
            Some(moved) => {
                self.moved = moved;
                self.on_disk -= oldest.bytes as u64;
            }
            None => self.held -= oldest.bytes,
        }
        Some(oldest.kind)
    }

    /// The revisions of the oldest events whose bytes memory should be relieved of, a few
    /// megabytes at a time.
    pub(crate) fn surplus(&self) -> impl Iterator<Item = u64> {
        // Somewhat more than need be, so that not every write has to do it again.
        let wanted = match self.overflows && self.held > self.budget {
            true => ROUND,
            false => 0,
        };
        let marks = self.marks.range(self.moved..);
        marks.scan(0, move |before, mark| {
            let enough = *before >= wanted;
            *before += mark.bytes + EVENT_OVERHEAD;
            (!enough).then_some(mark.revision)
        })
    }

    /// The oldest event whose bytes were in memory has them elsewhere now.
    pub(crate) fn moved(&mut self, revision: u64) {
        if let Some(mark) = self.marks.get(self.moved)
            && mark.revision == revision
        {
            self.held -= mark.bytes;
            self.on_disk += mark.bytes as u64;
            self.moved += 1;
        }
    }

    /// There is no place beside memory any more.
    pub(crate) fn give_up_overflow(&mut self) {
        self.overflows = false;
    }

    fn in_memory(&self) -> usize {
        self.held + self.marks.len() * EVENT_OVERHEAD
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

    /// How many bytes of memory they hold that nothing else does.
    pub(crate) fn held(&self) -> usize {
        self.in_memory()
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
    #[test]
    fn what_memory_has_no_room_for_leaves_it_and_is_not_forgotten() {
        let start = Instant::now();
        let mut history = History::new(&Config {
            history_bytes: 10_000,
            history_folder: Some("elsewhere".into()),
            history_disk_bytes: 50_000,
            ..Config::in_memory()
        });
        for revision in 0..20 {
            history.remember(revision, "a".into(), 1000, start);
        }
        let surplus: Vec<_> = history.surplus().collect();
        assert_eq!(surplus, (0..20).collect::<Vec<_>>());
        for revision in surplus {
            history.moved(revision);
        }
        assert_eq!(history.surplus().count(), 0);
        assert_eq!(kept(&mut history, start), 20);
        assert_eq!(history.held(), 20 * EVENT_OVERHEAD);

        for revision in 20..80 {
            history.remember(revision, "a".into(), 1000, start);
            for revision in history.surplus().collect::<Vec<_>>() {
                history.moved(revision);
            }
        }
        assert!(
            kept(&mut history, start) <= 50 + 11,
            "the disk has its limit too"
        );
    }
}
