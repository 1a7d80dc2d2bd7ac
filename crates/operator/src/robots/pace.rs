//! How often what has many parts is looked at: a look at a group of a thousand tasks, or at a
//! deployment on a thousand robots, costs a thousand times what a look at a small one does, and
//! while its parts come and go each of them asks for one.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use sandlot_decide::expiry::later;

use super::world::Wake;

/// What has fewer parts is looked at whenever something changes.
const MANY: usize = 50;
/// How long something has its rest after a look, for each of its parts: some twenty times what the
/// look takes.
const REST: Duration = Duration::from_micros(50);
/// Nothing rests for longer.
const LONGEST: Duration = Duration::from_millis(500);

/// What has its rest, and what of that is to be looked at after it.
///
/// A rest that seems longer than any is was begun before the clock was set back: it is over.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rested: HashMap<Wake, Timestamp>,
    waiting: BTreeSet<(Timestamp, Wake)>,
}

impl Pace {
    /// Whether something may be looked at now; if not, it waits for its turn.
    pub(crate) fn admits(&mut self, what: &Wake, now: Timestamp) -> bool {
        match self.rested.get(what) {
            Some(rested) if is_ahead(*rested, now) => {
                self.waiting.insert((*rested, what.clone()));
                false
            }
            _ => true,
        }
    }

    /// Something of so many parts has been looked at.
    pub(crate) fn looked(&mut self, what: Wake, parts: usize, now: Timestamp) {
        if parts < MANY {
            self.rested.remove(&what);
            return;
        }
        let rest = REST.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX));
        let rested = later(now, rest.min(LONGEST));
        self.rested.insert(what, rested);
    }

    /// When the next one that waits has its turn.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(when, _)| *when)
    }

    /// Takes one whose turn has come.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Wake> {
        // Those that wait from before the clock was set back are last.
        let (last, _) = self.waiting.last()?;
        let taken = match is_ahead(*last, now) {
            false => self.waiting.pop_last(),
            true => {
                self.waiting.first().filter(|(when, _)| *when <= now)?;
                self.waiting.pop_first()
            }
        };
        taken.map(|(_, what)| what)
    }

    /// Something is gone.
    pub(crate) fn forget(&mut self, what: &Wake) {
        self.rested.remove(what);
    }
}

/// Whether a rest that ends then has not ended yet.
fn is_ahead(end: Timestamp, now: Timestamp) -> bool {
    now < end && end <= later(now, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{index::Key, robots::sights::Kind};

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    fn group(name: &str) -> Wake {
        let key = Key {
            namespace: "fleet".into(),
            name: name.into(),
        };
        (Kind::Group, key)
    }

    #[test]
    fn what_is_small_is_always_looked_at() {
        let mut pace = Pace::default();
        pace.looked(group("a"), 1, at(0));
        assert!(pace.admits(&group("a"), at(0)));
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn what_is_large_rests_and_is_looked_at_once_after_it() {
        let mut pace = Pace::default();
        pace.looked(group("a"), 1000, at(0));
        for _ in 0..3 {
            assert!(!pace.admits(&group("a"), at(20)));
        }
        assert!(
            pace.admits(&group("b"), at(20)),
            "others do not wait for it"
        );
        assert_eq!(pace.due(), Some(at(50)));
        assert_eq!(pace.take_due(at(49)), None);
        assert_eq!(pace.take_due(at(50)), Some(group("a")));
        assert!(pace.admits(&group("a"), at(50)));
        assert_eq!(pace.due(), None, "it has had its turn");
        pace.looked(group("a"), 1_000_000, at(50));
        assert!(pace.admits(&group("a"), at(550)), "however large it is");
    }

    #[test]
    fn nothing_rests_until_a_clock_that_was_set_back_has_caught_up() {
        let (mut pace, day) = (Pace::default(), 86_400_000);
        for name in ["a", "b"] {
            pace.looked(group(name), 1000, at(day));
        }
        assert!(!pace.admits(&group("a"), at(day + 20)));
        // The clock is set back by a day.
        assert!(pace.admits(&group("b"), at(0)));
        pace.looked(group("b"), 1000, at(0));
        assert!(!pace.admits(&group("b"), at(10)));
        assert_eq!(pace.take_due(at(10)), Some(group("a")), "it waited");
        assert_eq!(pace.take_due(at(10)), None, "this one has its rest");
        assert_eq!(pace.take_due(at(50)), Some(group("b")));
    }
}
