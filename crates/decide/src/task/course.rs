//! The course of a task: steps in order, the first failure stops, a failed attempt may start over.
//!
//! The course is a function of what has been heard so far. After a restart it begins anew, asks
//! for the same steps under the same keys, and the agent answers from its records what has
//! already run: so the course needs no memory of its own.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Ended, Ending};
use crate::backoff::Backoff;

/// How long a task may take when it does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The wait between two attempts.
const RETRY: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};

/// The course of one task.
#[derive(Clone, Debug)]
pub struct Course {
    /// Each step's own limit.
    limits: Vec<Option<Duration>>,
    timeout: Duration,
    retries: u32,
    attempt: u32,
    started: Timestamp,
    ended: Vec<Ended>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this step.
    Run {
        /// Which step, counted from 0.
        step: usize,
        /// Which attempt, counted from 0.
        attempt: u32,
        /// How long it may take.
        limit: Duration,
        /// What its end is called when that time is over.
        late: Ending,
    },
    /// Wait so long, then call [`Course::retry`].
    Retry {
        /// How long to wait.
        wait: Duration,
    },
    /// The time of the whole task is over before this step could start.
    OutOfTime {
        /// The step that never started.
        step: usize,
        /// The task's limit.
        limit: Duration,
    },
    /// It is over.
    Done {
        /// Whether every step succeeded.
        succeeded: bool,
    },
}

impl Course {
    /// A course over steps with these limits of their own, started at `started`.
    pub fn new(
        limits: Vec<Option<Duration>>,
        timeout: Option<Duration>,
        retries: u32,
        started: Timestamp,
    ) -> Self {
        Self {
            limits,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            retries,
            attempt: 0,
            started,
            ended: Vec::new(),
        }
    }

    /// Which attempt this is, counted from 0.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What comes next.
    pub fn next(&self, now: Timestamp) -> Next {
        let step = self.ended.len();
        if self.ended.last().is_some_and(|ended| ended.error.is_some()) {
            return if self.attempt < self.retries {
                Next::Retry {
                    wait: RETRY.after(self.attempt + 1),
                }
            } else {
                Next::Done { succeeded: false }
            };
        }
        let Some(own) = self.limits.get(step) else {
            return Next::Done { succeeded: true };
        };
        let spent = Duration::try_from(now.duration_since(self.started).max(SignedDuration::ZERO))
            .unwrap_or_default();
        let left = self.timeout.saturating_sub(spent);
        if left.is_zero() {
            return Next::OutOfTime {
                step,
                limit: self.timeout,
            };
        }
        let (limit, late) = match own {
            Some(own) if *own <= left => (*own, Ending::TimedOut(*own)),
            _ => (left, Ending::OutOfTime(self.timeout)),
        };
        Next::Run {
            step,
            attempt: self.attempt,
            limit,
            late,
        }
    }

    /// The step that [`Course::next`] named has ended.
    pub fn ended(&mut self, ended: Ended) {
        self.ended.push(ended);
    }

    /// Starts over, with the whole time again.
    pub fn retry(&mut self, now: Timestamp) {
        self.attempt += 1;
        self.started = now;
        self.ended.clear();
    }
}
