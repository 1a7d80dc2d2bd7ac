//! What people are to be told of, under `kubectl describe`: a robot or a task that has just gone
//! wrong.

use sandlot_api::robot::{Robot, RobotPhase, Task, TaskState};

/// A reason in a word, and in words.
type Trouble = (String, String);

/// What is wrong with a task that was not when it was last seen. One that was never seen before
/// may have been told of by an operator before this one.
pub(crate) fn of_task(known: Option<&Task>, task: &Task) -> Option<Trouble> {
    let state = |task: &Task| {
        let state = task.status.as_ref().and_then(|status| status.state);
        state.unwrap_or_default()
    };
    let is_wrong = |state| {
        matches!(
            state,
            TaskState::Failed | TaskState::Rejected | TaskState::Lost
        )
    };
    if is_wrong(state(known?)) || !is_wrong(state(task)) {
        return None;
    }
    let status = task.status.as_ref()?;
    let reason = status.reason.clone().filter(|reason| !reason.is_empty());
    let robot = task.spec.target_robot.as_deref().unwrap_or("no robot");
    let why = status.message.as_deref().unwrap_or("it does not say why");
    Some((
        reason.unwrap_or_else(|| format!("{:?}", state(task))),
        format!("on {robot}: {why}"),
    ))
}

/// The same of a robot.
pub(crate) fn of_robot(known: Option<&Robot>, robot: &Robot) -> Option<Trouble> {
    let phase = |robot: &Robot| robot.status.as_ref().and_then(|status| status.phase);
    let is_gone = |phase| phase == Some(RobotPhase::Offline);
    if is_gone(phase(known?)) || !is_gone(phase(robot)) {
        return None;
    }
    let status = robot.status.as_ref()?;
    let why = status.message.clone().filter(|message| !message.is_empty());
    Some(("Offline".to_owned(), why?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(state: &str) -> Task {
        serde_json::from_value(json!({
            "metadata": { "name": "a" },
            "spec": { "name": "a", "driver": "exec", "config": {}, "targetRobot": "arm-1" },
            "status": { "state": state, "reason": "ExitCode", "message": "ended with exit code 4" },
        }))
        .unwrap()
    }

    #[test]
    fn a_task_that_goes_wrong_is_told_of_once() {
        let said = of_task(Some(&task("running")), &task("failed"));
        let told = "on arm-1: ended with exit code 4".to_owned();
        assert_eq!(said, Some(("ExitCode".to_owned(), told)));
        assert_eq!(of_task(Some(&task("failed")), &task("failed")), None);
        assert_eq!(of_task(Some(&task("running")), &task("completed")), None);
        assert_eq!(
            of_task(None, &task("failed")),
            None,
            "an operator before told"
        );
    }

    #[test]
    fn a_robot_that_goes_is_told_of_once() {
        let robot = |phase: &str| -> Robot {
            serde_json::from_value(json!({
                "metadata": { "name": "arm-1" }, "spec": { "robotId": "arm-1" },
                "status": { "phase": phase, "message": "Heartbeat timeout" },
            }))
            .unwrap()
        };
        let told = ("Offline".to_owned(), "Heartbeat timeout".to_owned());
        assert_eq!(
            of_robot(Some(&robot("Online")), &robot("Offline")),
            Some(told)
        );
        assert_eq!(of_robot(Some(&robot("Offline")), &robot("Offline")), None);
    }
}
