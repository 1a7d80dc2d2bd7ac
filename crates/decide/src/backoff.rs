//! Trying again later, and later still.

use std::time::Duration;

/// How long to wait before trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Backoff {
    /// The wait after so many failures in a row; none after none.
    pub fn after(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doublings = (failures - 1).min(31);
        self.first
            .checked_mul(1 << doublings)
            .map_or(self.longest, |wait| wait.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        let backoff = Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
        };
        let waits: Vec<_> = [0, 1, 2, 3, 9, 10, 4_000_000_000]
            .map(|failures| backoff.after(failures).as_secs())
            .into();
        assert_eq!(waits, [0, 1, 2, 4, 256, 300, 300]);
    }
}
