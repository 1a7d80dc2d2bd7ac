//! Whether the machine's clock was set: moments that are remembered move with it then. Otherwise
//! robots that fell silent before it was set back would count as there until it has caught up, and
//! all of them as silent when it is set ahead.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Less is no setting, but a clock that is helped along.
const NOTICED: SignedDuration = SignedDuration::from_secs(1);

/// What the clock showed when it was looked at last, and a clock beside it that nobody sets.
pub(crate) struct Clock {
    wall: Timestamp,
    steady: Instant,
}

impl Clock {
    pub(crate) fn new(wall: Timestamp, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// By how much the clock was set since it was looked at last, if it was.
    pub(crate) fn set_by(&mut self, wall: Timestamp, steady: Instant) -> Option<SignedDuration> {
        let passed = SignedDuration::try_from(steady.duration_since(self.steady)).ok()?;
        let by = wall.duration_since(self.wall).checked_sub(passed)?;
        (self.wall, self.steady) = (wall, steady);
        (by.abs() >= NOTICED).then_some(by)
    }
}

/// A moment as it is called after the clock was set.
pub(crate) fn moved(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_clock_that_runs_is_not_set_and_one_that_is_set_is_noticed_once() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut clock = Clock::new(at(1000), start);
        assert_eq!(clock.set_by(at(1030), after(30)), None);
        let back = clock.set_by(at(40), after(40));
        assert_eq!(back, Some(SignedDuration::from_secs(-1000)));
        assert_eq!(clock.set_by(at(70), after(70)), None);
        let ahead = clock.set_by(at(9080), after(80));
        assert_eq!(ahead, Some(SignedDuration::from_secs(9000)));
        assert_eq!(clock.set_by(at(9090), after(90)), None);
    }
}
