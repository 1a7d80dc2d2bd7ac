//! What is known of robots while nobody hears them, and before anybody has.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use sandlot_api::robot::{Robot, RobotPhase, names::BRIDGE_LEASE};
use serde_json::json;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn robots_are_unknown_while_no_bridge_listens_and_known_again_with_the_next() {
    let mut stage = Stage::set(|settings| settings.lease = Some(Duration::from_secs(1))).await;
    stage.robot("stays", |_| {});
    let leaves = stage.robot("leaves", |_| {});
    for robot in ["stays", "leaves"] {
        stage.works(robot).await;
    }
    stage.stop_bridge().await;
    for robot in ["stays", "leaves"] {
        let robot = stage.phase(robot, RobotPhase::Unknown).await;
        let status = robot.status.unwrap();
        assert_eq!(status.message.as_deref(), Some("No bridge listens"));
        let conditions = status.conditions.unwrap();
        assert!(conditions.iter().all(|one| one.status == "Unknown"));
    }
    // Its will is left with the broker, for whoever comes to read it.
    leaves.cancel();
    stage.start_bridge();
    stage.phase("stays", RobotPhase::Online).await;
    stage.phase("leaves", RobotPhase::Offline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn robots_are_unknown_when_their_bridge_is_taken_away_with_its_lease() {
    let mut stage = Stage::set(|settings| settings.lease = Some(Duration::from_secs(1))).await;
    stage.robot("arm-1", |_| {});
    stage.works("arm-1").await;
    stage.stop_bridge().await;
    let leases = stage.api::<Lease>();
    leases
        .delete(BRIDGE_LEASE, &DeleteParams::default())
        .await
        .unwrap();
    stage.phase("arm-1", RobotPhase::Unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_was_made_by_hand_says_what_it_waits_for() {
    let mut stage = Stage::set(|_| {}).await;
    let manifest = json!({
        "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": "Robot", "metadata": { "name": "arm-1" },
        "spec": { "robotId": "arm-1", "labels": { "site": "hall" } },
    });
    let _: Robot = stage.make(manifest).await;
    let waits = |robot: &Robot| {
        let status = robot.status.as_ref();
        status.is_some_and(|status| {
            status.phase == Some(RobotPhase::Pending)
                && status.message.as_deref() == Some("Waiting for the robot to register")
        })
    };
    stage.until("arm-1", waits).await;
    stage.robot("arm-1", |_| {});
    let robot = stage.phase("arm-1", RobotPhase::Online).await;
    let labels = robot.spec.labels.unwrap();
    assert_eq!(labels.get("site").map(String::as_str), Some("hall"));
}
