//! Commands: a result of each robot, and an end in time.

use sandlot_api::robot::{Command, CommandResultState, CommandState, RobotPhase};
use serde_json::json;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_a_result_of_each_robot() {
    let mut stage = Stage::set(|_| {}).await;
    for id in ["a", "b"] {
        stage.robot(id, |robot| {
            robot.labels = vec![("site".to_owned(), "north".to_owned())]
        });
    }
    for id in ["a", "b"] {
        stage.phase(id, RobotPhase::Online).await;
    }
    let _: Command = stage
        .make(json!({
            "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Command", "metadata": { "name": "say" },
            "spec": { "robotSelector": { "site": "north" }, "verb": "exec", "args": ["echo", "hello"] },
        }))
        .await;
    let ended = |command: &Command| {
        let state = command.status.as_ref().and_then(|status| status.state);
        state == Some(CommandState::Succeeded)
    };
    let done = stage.until("say", ended).await;
    let status = done.status.unwrap();
    assert_eq!((status.total, status.succeeded, status.failed), (2, 2, 0));
    assert!(
        status
            .results
            .unwrap()
            .iter()
            .all(|result| result.exit_code == Some(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_is_not_there_lets_a_command_expire() {
    let stage = Stage::set(|_| {}).await;
    let _: Command = stage
        .make(json!({
            "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Command", "metadata": { "name": "late" },
            "spec": { "robots": ["nobody"], "verb": "ping", "deadline": "100ms" },
        }))
        .await;
    let ended = |command: &Command| {
        let state = command.status.as_ref().and_then(|status| status.state);
        state == Some(CommandState::Failed)
    };
    let done = stage.until("late", ended).await;
    let results = done.status.unwrap().results.unwrap();
    assert_eq!(results[0].state, CommandResultState::Expired);
}
