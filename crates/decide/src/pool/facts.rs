//! What the engine knows of a pool's pods.

use std::sync::Arc;

use jiff::Timestamp;

use crate::Seniority;

/// One pod of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: Arc<str>,
    /// When it was made.
    pub made: Seniority,
    /// Whether somebody has it.
    pub used: Use,
    /// How it is.
    pub health: Health,
    /// Whether it was made from the pool's present template.
    pub current: bool,
    /// Whether it is already being deleted.
    pub leaving: bool,
    /// Whether somebody asked for it to be moved away.
    pub evict: bool,
}

/// Whether somebody has a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is there to be given out.
    Idle,
    /// It is given out, about to be, or on its way back.
    Taken,
}

/// How a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is on its way to being ready.
    Starting,
    /// It can be given out.
    Ready {
        /// Since when.
        since: Timestamp,
    },
    /// It will not become ready by itself, or not soon.
    Failing(Trouble),
}

/// What keeps a pod from being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What sort of trouble.
    pub kind: TroubleKind,
    /// Since when.
    pub since: Timestamp,
    /// What the node or the API said.
    pub message: String,
}

/// What sort of trouble keeps a pod from being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TroubleKind {
    /// The image cannot be had.
    Image,
    /// The container's configuration names something that is not there.
    Config,
    /// A container starts and ends, again and again.
    Crash,
    /// The pod ended.
    Ended,
    /// No node has room for it.
    Unschedulable,
    /// The API refused to make it: an admission rule, an invalid template, missing rights.
    Refused,
    /// The API refused to make it because the namespace has as much as it may have.
    Quota,
    /// Handing it back for reuse failed.
    Dirty,
}

impl TroubleKind {
    /// The reason to write in a condition or an event.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Image => "ImagePullFailed",
            Self::Config => "BadContainerConfig",
            Self::Crash => "CrashLoop",
            Self::Ended => "PodEnded",
            Self::Unschedulable => "Unschedulable",
            Self::Refused => "CreateRefused",
            Self::Quota => "QuotaExceeded",
            Self::Dirty => "ResetFailed",
        }
    }

    /// Whether a new pod in its place could fare better. A pod that nobody can place is left in
    /// the scheduler's queue: a new one would only stand further back.
    pub fn is_replaced(self) -> bool {
        !matches!(self, Self::Unschedulable | Self::Refused | Self::Quota)
    }

    /// What sort of refusal the API's words tell of.
    pub fn of_refusal(message: &str) -> Self {
        // Kubernetes has no code of its own for it: a 403 with these words.
        if message.contains("exceeded quota") || message.contains("failed quota") {
            Self::Quota
        } else {
            Self::Refused
        }
    }

    /// Whether the API refused to make a pod.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::Quota)
    }
}

/// Failures in a row, which the engine hands back to be remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// How many times pods were replaced, or refused, with none coming up well in between.
    pub count: u32,
    /// When the last replacement or refusal was.
    pub last: Option<Timestamp>,
    /// What was wrong then.
    pub trouble: Option<Trouble>,
}

impl Failures {
    /// The API refused to make a pod.
    pub fn refused(&mut self, message: String, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
        self.trouble = Some(Trouble {
            kind: TroubleKind::of_refusal(&message),
            since: now,
            message,
        });
    }
}
