//! Pausing and resuming: a sandbox is saved and stopped, and brought back from what was saved.
//!
//! Where it is stands in the status' phase and in the API's objects alone, so that an operator
//! that begins in the middle goes on from there.

use sandlot_api::opensandbox::BatchPhase;

/// What is known of a batch that may have to be paused or resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PauseFacts {
    /// The phase, as it is written.
    pub phase: Option<BatchPhase>,
    /// What is wished: pausing, resuming, or nothing.
    pub wish: Option<bool>,
    /// Whether the wish is younger than the last answer.
    pub fresh: bool,
    /// How many sandboxes it has.
    pub replicas: u32,
    /// Why nothing can be saved here, if so: as a word, and in words.
    pub cannot_save: Option<(&'static str, String)>,
    /// Its one pod.
    pub pod: PodNow,
    /// Whether nothing of its task is left.
    pub task_stopped: bool,
    /// What is saved of it.
    pub saved: Saved,
    /// Whether its template is its own: no pool is named any more.
    pub on_its_own: bool,
    /// Whether its template starts from what was saved.
    pub from_saved: bool,
}

/// A sandbox's pod at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodNow {
    /// There is none.
    #[default]
    Gone,
    /// It is on its way out.
    Leaving,
    /// It is not ready yet.
    Starting,
    /// A sandbox can work in it.
    Ready,
    /// It will not become ready by itself, for this reason.
    Unwell(String),
}

/// What is saved of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Saved {
    /// Nothing.
    #[default]
    Nothing,
    /// Something from before this pause, or of another sandbox of this name.
    Earlier,
    /// It is being saved, or what was saved is being removed.
    Moving,
    /// It is saved.
    Whole,
    /// It could not be saved, as the word and the words say.
    Failed(String, String),
}

/// The next step of a pause or a resumption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PauseStep {
    /// Nothing of the kind: the batch goes on as any other.
    Live,
    /// Nothing can be done until something changes.
    Wait,
    /// Say that it is being paused.
    BeginPause,
    /// Have its task stopped.
    StopTask,
    /// Remove what was saved before.
    ClearSaved,
    /// Have it saved.
    Save,
    /// Make the pod's own shape its template, and leave the pool.
    LeavePool,
    /// Give its pod back, or delete it.
    StopPod,
    /// Say that it is paused.
    Rest,
    /// Say that it is being resumed.
    BeginResume,
    /// Make what was saved the images of its template.
    PutImages,
    /// Have its pod made.
    Start,
    /// Say that it is back.
    Done,
    /// Say that it could not be paused, and go on as before.
    PauseFailed(&'static str, String),
    /// Say that it could not be resumed; whether it stays paused.
    ResumeFailed(&'static str, String, bool),
}

/// Decides the next step.
pub fn next_step(facts: &PauseFacts) -> PauseStep {
    match facts.phase {
        Some(BatchPhase::Pausing) => pausing(facts),
        Some(BatchPhase::Paused) => paused(facts),
        Some(BatchPhase::Resuming) => resuming(facts),
        _ => awake(facts),
    }
}

fn awake(facts: &PauseFacts) -> PauseStep {
    if !facts.fresh || facts.wish != Some(true) {
        return PauseStep::Live;
    }
    if facts.replicas != 1 {
        let why = format!(
            "it has {} sandboxes, and only one alone can be paused",
            facts.replicas
        );
        return PauseStep::PauseFailed("UnsupportedReplicas", why);
    }
    if let Some((word, why)) = &facts.cannot_save {
        return PauseStep::PauseFailed(word, why.clone());
    }
    match &facts.pod {
        PodNow::Ready => PauseStep::BeginPause,
        PodNow::Unwell(why) => PauseStep::PauseFailed("PodFailed", why.clone()),
        // It is paused as soon as it is there.
        PodNow::Gone | PodNow::Leaving | PodNow::Starting => PauseStep::Live,
    }
}

fn pausing(facts: &PauseFacts) -> PauseStep {
    match &facts.saved {
        Saved::Whole if !facts.on_its_own => return PauseStep::LeavePool,
        Saved::Whole => {
            return match facts.pod {
                PodNow::Gone => PauseStep::Rest,
                // What is paused takes nothing: no process of it is left.
                PodNow::Leaving => PauseStep::Wait,
                _ => PauseStep::StopPod,
            };
        }
        Saved::Failed(word, why) if word == "PodNotFound" => {
            return PauseStep::PauseFailed("PodNotFound", why.clone());
        }
        Saved::Failed(word, why) => {
            return PauseStep::PauseFailed("SnapshotFailed", format!("{word}: {why}"));
        }
        Saved::Nothing | Saved::Earlier | Saved::Moving => {}
    }
    if matches!(facts.pod, PodNow::Gone | PodNow::Leaving) {
        let why = "its pod went away before it was saved".to_owned();
        return PauseStep::PauseFailed("PodNotFound", why);
    }
    match facts.saved {
        _ if !facts.task_stopped => PauseStep::StopTask,
        Saved::Nothing => PauseStep::Save,
        Saved::Earlier => PauseStep::ClearSaved,
        _ => PauseStep::Wait,
    }
}

fn paused(facts: &PauseFacts) -> PauseStep {
    if !facts.fresh || facts.wish != Some(false) {
        return PauseStep::Wait;
    }
    match &facts.saved {
        Saved::Whole => PauseStep::BeginResume,
        Saved::Nothing => PauseStep::ResumeFailed("SnapshotNotFound", nothing_saved(), true),
        _ => {
            let why = "what was saved of it is not whole".to_owned();
            PauseStep::ResumeFailed("SnapshotNotReady", why, true)
        }
    }
}

fn resuming(facts: &PauseFacts) -> PauseStep {
    if !facts.from_saved {
        return match facts.saved {
            Saved::Whole => PauseStep::PutImages,
            _ => PauseStep::ResumeFailed("SnapshotNotFound", nothing_saved(), true),
        };
    }
    match &facts.pod {
        PodNow::Ready => PauseStep::Done,
        PodNow::Unwell(why) => PauseStep::ResumeFailed("PodFailed", why.clone(), false),
        PodNow::Gone | PodNow::Leaving | PodNow::Starting => PauseStep::Start,
    }
}

fn nothing_saved() -> String {
    "there is no SandboxSnapshot of it to start from".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(phase: BatchPhase, wish: bool) -> PauseFacts {
        PauseFacts {
            phase: Some(phase),
            wish: Some(wish),
            fresh: true,
            replicas: 1,
            pod: PodNow::Ready,
            task_stopped: true,
            ..PauseFacts::default()
        }
    }

    #[test]
    fn a_pause_goes_step_by_step_and_its_pod_is_stopped_only_after_it_is_saved() {
        let mut facts = facts(BatchPhase::Succeed, true);
        assert_eq!(next_step(&facts), PauseStep::BeginPause);
        (facts.phase, facts.task_stopped) = (Some(BatchPhase::Pausing), false);
        assert_eq!(next_step(&facts), PauseStep::StopTask);
        facts.task_stopped = true;
        facts.saved = Saved::Earlier;
        assert_eq!(next_step(&facts), PauseStep::ClearSaved);
        facts.saved = Saved::Nothing;
        assert_eq!(next_step(&facts), PauseStep::Save);
        facts.saved = Saved::Moving;
        assert_eq!(next_step(&facts), PauseStep::Wait);
        facts.saved = Saved::Whole;
        assert_eq!(next_step(&facts), PauseStep::LeavePool);
        facts.on_its_own = true;
        assert_eq!(next_step(&facts), PauseStep::StopPod);
        facts.pod = PodNow::Leaving;
        assert_eq!(next_step(&facts), PauseStep::Wait);
        facts.pod = PodNow::Gone;
        assert_eq!(next_step(&facts), PauseStep::Rest);
    }

    #[test]
    fn a_resumption_starts_a_pod_only_from_what_was_saved() {
        let mut facts = facts(BatchPhase::Paused, false);
        (facts.saved, facts.pod) = (Saved::Whole, PodNow::Gone);
        assert_eq!(next_step(&facts), PauseStep::BeginResume);
        facts.phase = Some(BatchPhase::Resuming);
        assert_eq!(next_step(&facts), PauseStep::PutImages);
        facts.from_saved = true;
        assert_eq!(next_step(&facts), PauseStep::Start);
        facts.pod = PodNow::Ready;
        assert_eq!(next_step(&facts), PauseStep::Done);
    }

    #[test]
    fn what_cannot_be_paused_says_why_and_goes_on() {
        let failure = |facts: &PauseFacts| match next_step(facts) {
            PauseStep::PauseFailed(word, _) | PauseStep::ResumeFailed(word, ..) => word,
            other => panic!("{other:?}"),
        };
        let mut many = facts(BatchPhase::Succeed, true);
        many.replicas = 3;
        assert_eq!(failure(&many), "UnsupportedReplicas");
        let mut lost = facts(BatchPhase::Pausing, true);
        lost.pod = PodNow::Gone;
        assert_eq!(failure(&lost), "PodNotFound");
        let mut unsaved = facts(BatchPhase::Pausing, true);
        unsaved.saved = Saved::Failed("CommitFailed".into(), "disk full".into());
        assert_eq!(failure(&unsaved), "SnapshotFailed");
        let nothing = facts(BatchPhase::Paused, false);
        assert_eq!(failure(&nothing), "SnapshotNotFound");
    }

    #[test]
    fn an_answered_wish_is_not_answered_again() {
        let mut facts = facts(BatchPhase::Succeed, true);
        facts.fresh = false;
        assert_eq!(next_step(&facts), PauseStep::Live);
        facts.phase = Some(BatchPhase::Paused);
        assert_eq!(next_step(&facts), PauseStep::Wait);
    }
}
