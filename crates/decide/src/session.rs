//! How a session and its executions go on, and when a session's time is over.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// It waits for its pod and its files.
    #[default]
    Creating,
    /// Code can run in it.
    Running,
    /// It ended as it was meant to.
    Completed,
    /// It lost its pod, or never got one.
    Failed,
    /// Its time was up.
    Timeout,
    /// Somebody ended it.
    Terminated,
}

impl SessionStatus {
    /// As it is written on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Terminated => "terminated",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Creating,
            Self::Running,
            Self::Completed,
            Self::Failed,
            Self::Timeout,
            Self::Terminated,
        ]
        .into_iter()
        .find(|status| status.as_str() == name)
    }

    /// Whether it has, or is to have, a pod.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Creating | Self::Running)
    }

    /// Whether it may go on to be `next`. Nothing that has ended comes back, whatever arrives
    /// late; but anybody's session can be terminated.
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (_, Self::Terminated) => self != Self::Terminated,
            (Self::Creating, Self::Running | Self::Failed) => true,
            (Self::Running, Self::Completed | Self::Failed | Self::Timeout) => true,
            _ => false,
        }
    }
}

/// Where an execution stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionStatus {
    /// It is noted and about to start.
    #[default]
    Pending,
    /// Its code runs.
    Running,
    /// Its code ended well.
    Completed,
    /// Its code ended with an error, or was stopped on request.
    Failed,
    /// Its time was up; everything it started was ended.
    Timeout,
    /// What it ran in was lost.
    Crashed,
}

impl ExecutionStatus {
    /// As it is written on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Crashed => "crashed",
        }
    }

    /// The status of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Running,
            Self::Completed,
            Self::Failed,
            Self::Timeout,
            Self::Crashed,
        ]
        .into_iter()
        .find(|status| status.as_str() == name)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// What is known of a session when its time is judged.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Where it stands.
    pub status: SessionStatus,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub active: Timestamp,
    /// Whether code runs in it now.
    pub busy: bool,
}

/// How long sessions may live; `None` is for ever.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without being used.
    pub idle: Option<Duration>,
    /// At all.
    pub lifetime: Option<Duration>,
    /// Waiting for a pod.
    pub creating: Duration,
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Stays,
    /// It was not used for too long.
    Idle,
    /// It has lived as long as it may.
    Old,
    /// It waited for its pod for too long.
    Stuck,
}

/// Judges a session.
pub fn judge(facts: &Facts, limits: &Limits, now: Timestamp) -> Verdict {
    let over = |since: Timestamp, limit: Duration| {
        now.duration_since(since)
            .try_into()
            .is_ok_and(|age: Duration| age > limit)
    };
    match facts.status {
        SessionStatus::Creating if over(facts.created, limits.creating) => Verdict::Stuck,
        SessionStatus::Running
            if limits
                .lifetime
                .is_some_and(|most| over(facts.created, most)) =>
        {
            Verdict::Old
        }
        SessionStatus::Running
            if !facts.busy && limits.idle.is_some_and(|most| over(facts.active, most)) =>
        {
            Verdict::Idle
        }
        _ => Verdict::Stays,
    }
}
