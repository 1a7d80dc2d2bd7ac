//! What is known of robots while nobody hears them.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use sandlot_api::robot::{RobotPhase, names::BRIDGE_LEASE};

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
