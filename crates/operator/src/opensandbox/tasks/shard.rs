//! One task of a batch as the operator remembers it.

use sandlot_api::opensandbox::{ExecutorTask, ProcessStatus};
use tokio_util::sync::CancellationToken;

use crate::index::Uid;

/// One task of a batch.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) standing: Standing,
    /// What a courier is under way for, and in which pod.
    pub(crate) errand: Option<(Uid, Purpose, CancellationToken)>,
    /// The pod whose executor is known to have nothing left of it.
    pub(crate) stopped_in: Option<Uid>,
}

/// What a courier is under way for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Run,
    Stop,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has no pod.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended otherwise.
    Failed,
    /// Nothing is known of it, or it cannot be started.
    Unknown,
}

impl Standing {
    /// Whether it has ended.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// The letter that stands for it in the annotation.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Succeeded => 'S',
            Self::Failed => 'F',
            Self::Pending | Self::Running | Self::Unknown => '-',
        }
    }

    /// What an executor says of a task.
    pub(crate) fn of(task: &ExecutorTask) -> Self {
        match &task.process_status {
            Some(ProcessStatus {
                terminated: Some(end),
                ..
            }) if end.exit_code == 0 => Self::Succeeded,
            Some(ProcessStatus {
                terminated: Some(_),
                ..
            }) => Self::Failed,
            Some(ProcessStatus {
                running: Some(_), ..
            }) => Self::Running,
            _ => Self::Unknown,
        }
    }
}

impl Shard {
    /// A task whose end is remembered by this letter.
    pub(crate) fn recalled(letter: char) -> Option<Self> {
        let standing = match letter {
            'S' => Standing::Succeeded,
            'F' => Standing::Failed,
            _ => return None,
        };
        let mut shard = Self::default();
        shard.standing = standing;
        Some(shard)
    }

    /// Ends what a courier is under way for.
    pub(crate) fn call_off(&mut self) {
        if let Some((_, _, cancel)) = self.errand.take() {
            cancel.cancel();
        }
    }

    /// Whether a courier is under way for this in this pod.
    pub(crate) fn is_under_way(&self, pod: &Uid, purpose: Purpose) -> bool {
        matches!(&self.errand, Some((to, what, _)) if to == pod && *what == purpose)
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.call_off();
    }
}
