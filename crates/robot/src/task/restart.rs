//! Whether a program that has ended is started again, and when.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_api::robot::RestartMode;
use sandlot_decide::expiry::later;
use sandlot_supervisor::{End, Outcome};

use super::Life;

/// How long a task waits before it is started again when nothing says so.
const DELAY: Duration = Duration::from_secs(15);
/// How often a task that keeps ending well, and is to be kept running, is started again at most.
const QUICKEST: Duration = Duration::from_secs(1);

impl Life<'_> {
    /// How long to wait before the program is started again, if it is.
    pub(super) fn restart_after(&mut self, outcome: &Outcome, now: Timestamp) -> Option<Duration> {
        let well = outcome.end.is_success();
        if well && !self.task.service {
            return None;
        }
        if matches!(outcome.end, End::Stopped { .. }) {
            return None;
        }
        let policy = self.task.restart_policy.clone().unwrap_or_default();
        let delay = policy.delay.map_or(DELAY, |delay| delay.0);
        if well {
            return Some(delay.max(QUICKEST));
        }
        let budget = usize::try_from(policy.attempts.unwrap_or(0)).unwrap_or(0);
        let interval = policy.interval.map(|interval| interval.0);
        let pause = restart_pause(&mut self.entry.restarts, budget, interval, now);
        match (pause, policy.mode.unwrap_or_default()) {
            (Some(pause), _) if pause.is_zero() => {}
            (Some(pause), RestartMode::Delay) if budget > 0 => {
                let pause = pause.max(delay);
                self.entry.restarts.push(later(now, pause));
                return Some(pause);
            }
            _ => return None,
        }
        self.entry.restarts.push(now);
        Some(delay)
    }
}

/// Whether the budget of restarts allows another one: zero when it does, how long until it does,
/// or nothing when it never will.
fn restart_pause(
    restarts: &mut Vec<Timestamp>,
    budget: usize,
    interval: Option<Duration>,
    now: Timestamp,
) -> Option<Duration> {
    if let Some(interval) = interval {
        restarts.retain(|then| now.duration_since(*then).unsigned_abs() < interval);
    }
    if restarts.len() < budget {
        return Some(Duration::ZERO);
    }
    let oldest = restarts.first()?;
    let passed = now.duration_since(*oldest).unsigned_abs();
    Some(
        interval?
            .saturating_sub(passed)
            .max(Duration::from_millis(1)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn restarts_are_counted_within_their_interval() {
        let minute = Some(Duration::from_secs(60));
        let mut restarts = vec![];
        assert_eq!(restart_pause(&mut restarts, 0, minute, at(0)), None);
        for second in [0, 10] {
            assert_eq!(
                restart_pause(&mut restarts, 2, minute, at(second)),
                Some(Duration::ZERO)
            );
            restarts.push(at(second));
        }
        assert_eq!(
            restart_pause(&mut restarts, 2, minute, at(20)),
            Some(Duration::from_secs(40))
        );
        assert_eq!(
            restart_pause(&mut restarts, 2, minute, at(61)),
            Some(Duration::ZERO)
        );
        assert_eq!(restarts, [at(10)]);
        assert_eq!(
            restart_pause(&mut vec![at(0), at(1)], 2, None, at(99)),
            None
        );
    }
}
