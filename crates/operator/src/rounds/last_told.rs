//! When something was last written, where it is written no more often than makes sense.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_decide::expiry::later;

/// When something was last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastTold(Option<Timestamp>);

impl LastTold {
    /// It is told now.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(Some(now))
    }

    /// Until when the next word has to wait, if it does, where two are at least `apart`.
    pub(crate) fn waits(self, apart: Duration, now: Timestamp) -> Option<Timestamp> {
        let next = later(self.0?, apart);
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_told_at_once_and_the_next_a_while_later() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let apart = Duration::from_secs(2);
        assert_eq!(LastTold::default().waits(apart, second(10)), None);
        let told = LastTold::at(second(10));
        assert_eq!(told.waits(apart, second(11)), Some(second(12)));
        assert_eq!(told.waits(apart, second(12)), None);
    }
}
