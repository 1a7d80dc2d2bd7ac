//! How long a container that keeps on failing waits.

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(5);
/// A run this long is a success that clears the past.
const FORGIVEN: SignedDuration = SignedDuration::from_mins(10);

/// The next delay, doubled with each failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The wait now in force.
    now: SignedDuration,
    next: Option<SignedDuration>,
}

impl Backoff {
    /// When to try again after an attempt that began and ended so. The first failure is
    /// forgiven at once.
    pub(crate) fn after(&mut self, began: Timestamp, ended: Timestamp) -> Timestamp {
        if ended.duration_since(began) >= FORGIVEN {
            self.next = None;
        }
        self.now = self.next.unwrap_or(SignedDuration::ZERO);
        self.next = Some((self.now * 2).clamp(FIRST, LONGEST));
        ended + self.now
    }

    /// When to try again after an attempt that failed before anything ran.
    pub(crate) fn after_failure(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.next.unwrap_or(FIRST);
        self.next = Some((self.now * 2).min(LONGEST));
        now + self.now
    }

    /// How long the wait now in force is, for people.
    pub(crate) fn words(self) -> String {
        let seconds = self.now.as_secs();
        match (seconds / 60, seconds % 60) {
            (0, seconds) => format!("{seconds}s"),
            (minutes, seconds) => format!("{minutes}m{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_a_long_run_clears_them() {
        let start = Timestamp::UNIX_EPOCH;
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8)
            .map(|_| backoff.after(start, start).duration_since(start).as_secs())
            .collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.words(), "5m0s");
        let later = start + SignedDuration::from_mins(11);
        assert_eq!(backoff.after(start, later), later);
    }
}
