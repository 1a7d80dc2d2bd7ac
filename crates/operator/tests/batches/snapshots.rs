//! Snapshots that somebody asks for, and how they are saved.

use std::{sync::Arc, time::Duration};

use sandlot_api::opensandbox::{
    BatchSandbox, SandboxSnapshot, SandboxSnapshotStatus, SnapshotPhase,
};
use sandlot_operator::Snapshots;
use serde_json::json;

use crate::{
    saving::{PretendSaver, REGISTRY, Saving},
    stage::*,
};

async fn until_over(stage: &Stage, name: &str) -> SandboxSnapshotStatus {
    let is_over = |snapshot: &SandboxSnapshot| {
        let status = snapshot.status.as_ref();
        let phase = status.and_then(|status| status.phase);
        matches!(phase, Some(SnapshotPhase::Succeed | SnapshotPhase::Failed))
    };
    let snapshot: SandboxSnapshot = stage.until(name, is_over).await;
    snapshot.status.unwrap()
}

#[tokio::test]
async fn a_snapshot_names_the_images_of_a_running_sandbox_and_leaves_it_running() {
    let saver = PretendSaver::new();
    let saving = Saving(saver.clone());
    let stage = Stage::with(|settings| settings.snapshots = Snapshots::By(Arc::new(saving))).await;
    stage
        .make::<BatchSandbox>("b", json!({ "replicas": 1, "template": template() }))
        .await;
    stage.until_delivered("b").await;
    stage
        .make::<SandboxSnapshot>("osb-snap-1", json!({ "sandboxName": "b" }))
        .await;
    let status = until_over(&stage, "osb-snap-1").await;
    assert_eq!(status.phase, Some(SnapshotPhase::Succeed), "{status:?}");
    let saved = &status.containers[0];
    assert!(
        saved
            .image_uri
            .starts_with(&format!("{REGISTRY}/default/b-sandbox-container:snap-")),
        "{saved:?}"
    );
    assert!(saved.image_digest.as_ref().unwrap().starts_with("sha256:"));
    assert_eq!(status.conditions.unwrap()[0].kind, "Ready");
    stage.until_delivered("b").await;

    let image = saved.image_uri.clone();
    stage.delete::<SandboxSnapshot>("osb-snap-1").await;
    stage.until_gone::<SandboxSnapshot>("osb-snap-1").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !saver.forgotten().contains(&image) {
        assert!(tokio::time::Instant::now() < deadline, "its image is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_saved_says_why() {
    let saving = Saving(PretendSaver::new());
    let stage = Stage::with(|settings| settings.snapshots = Snapshots::By(Arc::new(saving))).await;
    let reason = |status: SandboxSnapshotStatus| {
        assert_eq!(status.phase, Some(SnapshotPhase::Failed));
        let failed = status.conditions.unwrap().remove(0);
        assert_eq!(failed.kind, "Failed");
        failed.reason.unwrap()
    };
    stage
        .make::<SandboxSnapshot>("nobody", json!({ "sandboxName": "nobody" }))
        .await;
    assert_eq!(
        reason(until_over(&stage, "nobody").await),
        "SandboxNotFound"
    );
    stage
        .make::<BatchSandbox>("many", json!({ "replicas": 2, "template": template() }))
        .await;
    stage.until_delivered("many").await;
    stage
        .make::<SandboxSnapshot>("many", json!({ "sandboxName": "many" }))
        .await;
    assert_eq!(
        reason(until_over(&stage, "many").await),
        "UnsupportedReplicas"
    );
}
