//! What a status says of a pause or a resumption.

use sandlot_api::opensandbox::{BatchPhase, Condition};
use sandlot_decide::batch::Standing;

use super::super::index::BatchEntry;

/// What the status has to say of a pause or a resumption.
#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    /// The phase, where it is not that of any other batch.
    pub(super) phase: Option<BatchPhase>,
    /// Whether the present wish is answered by it.
    pub(super) answered: bool,
    /// What failed: the condition's type, its reason and message.
    pub(super) failure: Option<(&'static str, &'static str, String)>,
    /// Whether its pods and tasks are left alone otherwise.
    pub(super) asleep: bool,
}

impl Word {
    /// What the status says already.
    pub(super) fn as_written(entry: &BatchEntry) -> Self {
        let phase = entry.pause_phase();
        Self {
            phase,
            asleep: phase.is_some_and(|phase| phase != BatchPhase::Resuming),
            ..Self::default()
        }
    }

    pub(super) fn answer(phase: Option<BatchPhase>, asleep: bool) -> Self {
        Self {
            phase,
            answered: true,
            asleep,
            failure: None,
        }
    }
}

/// How a batch stands that is being paused or resumed, or is paused.
pub(super) fn at_rest(phase: BatchPhase) -> Standing {
    let (condition, reason, message) = match phase {
        BatchPhase::Pausing => (
            "Progressing",
            "PauseInProgress",
            "it is being saved and stopped",
        ),
        BatchPhase::Paused => (
            "Paused",
            "Paused",
            "it is saved; set pause to false to resume",
        ),
        _ => (
            "Progressing",
            "ResumeInProgress",
            "it is being started from what was saved",
        ),
    };
    Standing {
        phase,
        condition,
        reason,
        message: message.to_owned(),
    }
}

/// A failure to pause or resume is said for as long as the wish stands that it answers.
pub(super) fn standing_failure(
    entry: &BatchEntry,
    word: &Word,
    old: &[Condition],
) -> Option<Condition> {
    let kind = match entry.spec.pause {
        Some(true) => "PauseFailed",
        Some(false) => "ResumeFailed",
        None => return None,
    };
    let on_the_way = matches!(word.phase, Some(BatchPhase::Pausing | BatchPhase::Resuming));
    if word.answered || on_the_way {
        return None;
    }
    old.iter().find(|condition| condition.kind == kind).cloned()
}
