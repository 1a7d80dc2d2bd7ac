//! The key under which a step runs: asking for it again attaches instead of starting.

use sandlot_api::arl::Step;

/// What marks a step that outlives its task.
const BACKGROUND: &str = "background";

/// The key of one attempt at one step of a task.
pub(super) fn of(task: &str, step: usize, attempt: u32, what: &Step) -> String {
    if what.background.unwrap_or(false) {
        format!("{task}/{step}/{attempt}/{BACKGROUND}")
    } else {
        format!("{task}/{step}/{attempt}")
    }
}

/// The uid of the task without which a run must not go on; nothing for what runs in the background
/// or was not started by a task.
pub(crate) fn task_of(key: &str) -> Option<&str> {
    let mut parts = key.split('/');
    let (task, step, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    let counts = step.parse::<usize>().is_ok() && attempt.parse::<u32>().is_ok();
    (parts.next().is_none() && counts && task.len() == 36).then_some(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_known_by_the_keys_of_its_steps_unless_they_outlive_it() {
        let uid = "6f1c2b9e-0000-4000-8000-000000000001";
        let mut step = Step::default();
        assert_eq!(task_of(&of(uid, 2, 0, &step)), Some(uid));
        step.background = Some(true);
        assert_eq!(task_of(&of(uid, 2, 0, &step)), None);
        assert_eq!(task_of("unnamed/1/2"), None);
        assert_eq!(task_of("session/a"), None);
    }
}
