//! How a version of a program reaches robots, and what becomes of one that does not work there.

use sandlot_api::robot::{DeploymentState, Robot, RobotDeployment, RolloutState};
use serde_json::{Value, json};

use crate::stage::Stage;

/// How many robots there are.
const ROBOTS: i32 = 4;

fn version(version: &str) -> Value {
    let artifact = json!({ "getterSource": format!("https://example.com/{version}.tar.gz") });
    json!({
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "RobotDeployment",
        "metadata": { "name": "app" },
        "spec": { "version": version, "artifacts": [artifact] },
    })
}

/// Robots on which `first` is. On the last of them `bad` fails.
async fn settled() -> Stage {
    let mut stage = Stage::set(|_| {}).await;
    for number in 0..ROBOTS {
        stage.robot(&format!("robot-{number}"), |robot| {
            robot.fails = (number + 1 == ROBOTS).then(|| "bad".to_owned());
        });
    }
    for number in 0..ROBOTS {
        let there = |robot: &Robot| {
            robot
                .status
                .as_ref()
                .is_some_and(|s| s.registered_at.is_some())
        };
        stage.until(&format!("robot-{number}"), there).await;
    }
    let _: RobotDeployment = stage.make(version("first")).await;
    all_have(&stage, "first", RolloutState::Completed).await;
    stage
}

async fn edit(stage: &Stage, name: &str, update: Value) -> RobotDeployment {
    let mut spec = version(name)["spec"].clone();
    spec["update"] = update;
    stage.change("app", json!({ "spec": spec })).await
}

/// Waits until a version is healthy on every robot, and the rollout of the spec as it is stands
/// somewhere.
async fn all_have(stage: &Stage, version: &str, state: RolloutState) -> RobotDeployment {
    let everywhere = |deployment: &RobotDeployment| {
        deployment.status.as_ref().is_some_and(|status| {
            let robots = status.robots.as_deref().unwrap_or_default();
            status.observed_generation == deployment.metadata.generation
                && status
                    .rollout
                    .as_ref()
                    .is_some_and(|rollout| rollout.state == state)
                && robots.len() == ROBOTS as usize
                && robots.iter().all(|robot| {
                    robot.version == version && robot.state == DeploymentState::Healthy
                })
        })
    };
    stage.until("app", everywhere).await
}

/// The generations that robots were told their versions by.
fn generations(deployment: &RobotDeployment) -> Vec<Option<i64>> {
    let robots = deployment
        .status
        .as_ref()
        .and_then(|status| status.robots.as_ref());
    robots
        .unwrap()
        .iter()
        .map(|robot| robot.generation)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_reaches_every_robot_and_the_next_does_too() {
    let stage = settled().await;
    edit(&stage, "second", json!({ "maxParallel": 1 })).await;
    let deployment = all_have(&stage, "second", RolloutState::Completed).await;
    assert_eq!(generations(&deployment), [Some(2); ROBOTS as usize]);
    let status = deployment.status.unwrap();
    assert_eq!((status.desired, status.updated, status.ready), (4, 4, 4));
    for number in 0..ROBOTS {
        let runs = |robot: &Robot| {
            let installed = robot
                .status
                .as_ref()
                .and_then(|status| status.deployments.as_ref());
            installed.is_some_and(|all| all[0].active_version.as_deref() == Some("second"))
        };
        stage.until(&format!("robot-{number}"), runs).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_somewhere_leads_back_to_what_worked_everywhere() {
    let stage = settled().await;
    edit(
        &stage,
        "bad",
        json!({ "maxParallel": 4, "autoRevert": true }),
    )
    .await;
    let deployment = all_have(&stage, "first", RolloutState::Reverted).await;
    // As they had it before: nothing is fetched once more.
    assert_eq!(generations(&deployment), [Some(1); ROBOTS as usize]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_steps_alone_installs_nothing_again() {
    let stage = settled().await;
    edit(&stage, "first", json!({ "maxParallel": 2 })).await;
    let deployment = all_have(&stage, "first", RolloutState::Completed).await;
    assert_eq!(deployment.metadata.generation, Some(2));
    assert_eq!(generations(&deployment), [Some(1); ROBOTS as usize]);
}
