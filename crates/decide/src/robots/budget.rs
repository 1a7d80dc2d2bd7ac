//! How often, and after how long, what has failed is tried again elsewhere.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_api::robot::{DelayFunction, JobType, ReschedulePolicy};

use crate::expiry::later;

/// What to do about work that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Try it again, not before then.
    At(Timestamp),
    /// It has failed for good.
    Never,
}

/// What a policy that says nothing means.
const DELAY: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(3600);

/// When to try again, after failures at these times, the latest last.
///
/// Without a policy, a service is tried again as long as it takes and other work is not: a batch
/// whose program fails is a batch that failed.
pub fn again(policy: Option<&ReschedulePolicy>, kind: JobType, failures: &[Timestamp]) -> Again {
    let Some(latest) = failures.last().copied() else {
        return Again::Never;
    };
    let unlimited = match policy {
        Some(policy) => policy.unlimited.unwrap_or(false),
        None => kind == JobType::Service,
    };
    let empty = ReschedulePolicy::default();
    let policy = policy.unwrap_or(&empty);
    if !unlimited {
        let allowed = usize::try_from(policy.attempts.unwrap_or(0)).unwrap_or(0);
        let counted = match policy.interval {
            Some(interval) => failures
                .iter()
                .filter(|at| later(**at, interval.0) > latest)
                .count(),
            None => failures.len(),
        };
        if counted > allowed {
            return Again::Never;
        }
    }
    Again::At(later(latest, wait(policy, failures.len())))
}

/// The wait after so many failures.
pub fn wait(policy: &ReschedulePolicy, failures: usize) -> Duration {
    let first = policy.delay.map_or(DELAY, |delay| delay.0);
    let longest = policy.max_delay.map_or(LONGEST, |delay| delay.0).max(first);
    let times = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = match policy.delay_function.unwrap_or_default() {
        DelayFunction::Constant => 1,
        DelayFunction::Exponential => 1u32.checked_shl(times).unwrap_or(u32::MAX),
        DelayFunction::Fibonacci => fibonacci(times),
    };
    first
        .checked_mul(factor)
        .map_or(longest, |wait| wait.min(longest))
}

/// 1, 1, 2, 3, 5, …
fn fibonacci(n: u32) -> u32 {
    let (mut this, mut next) = (1u32, 1u32);
    for _ in 0..n.min(64) {
        (this, next) = (next, this.saturating_add(next));
    }
    this
}
