//! Batches that make their own pods.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sandlot_api::opensandbox::{BatchPhase, BatchSandbox, names};
use serde_json::json;

use crate::stage::*;

fn names_of(pods: &[Pod]) -> Vec<String> {
    let mut names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
    names.sort();
    names
}

#[tokio::test]
async fn pods_are_made_by_index_with_their_own_patches() {
    let stage = Stage::set().await;
    let patches = json!([{}, { "metadata": { "labels": { "shard": "one", (names::POD_INDEX): "9" } },
        "spec": { "containers": [{ "name": "sandbox-container", "env": [{ "name": "A", "value": "1" }] }] } }]);
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 2, "template": template(), "shardPatches": patches }),
        )
        .await;
    let batch = stage.until_delivered("b").await;
    assert_eq!(endpoints(&batch).len(), 2);
    let pods = stage.pods().await;
    assert_eq!(names_of(&pods), ["b-0", "b-1"]);
    let one = pods.iter().find(|pod| pod.name_any() == "b-1").unwrap();
    assert_eq!(one.labels()["shard"], "one");
    assert_eq!(
        one.labels()[names::POD_INDEX],
        "1",
        "what identifies a pod is not the patch's to say"
    );
    let container = &one.spec.as_ref().unwrap().containers[0];
    assert_eq!(
        container.image.as_deref(),
        Some("ubuntu:latest"),
        "a patch merges by container name"
    );
    assert_eq!(container.env.as_ref().unwrap()[0].name, "A");
    assert_eq!(
        status(&batch).selector.as_deref(),
        Some("batch-sandbox.sandbox.opensandbox.io/name=b")
    );
}

#[tokio::test]
async fn a_deleted_pod_is_replaced_and_scaling_goes_both_ways() {
    let stage = Stage::set().await;
    stage
        .make::<BatchSandbox>("b", json!({ "replicas": 3, "template": template() }))
        .await;
    stage.until_delivered("b").await;
    let old = stage.api::<Pod>().get("b-1").await.unwrap().uid();
    stage.delete::<Pod>("b-1").await;
    stage.until::<Pod>("b-1", |pod| pod.uid() != old).await;
    stage.until_delivered("b").await;
    stage
        .change::<BatchSandbox>("b", json!({ "spec": { "replicas": 1 } }))
        .await;
    stage.until_pods(|pods| names_of(pods) == ["b-0"]).await;
    stage
        .change::<BatchSandbox>("b", json!({ "spec": { "replicas": 2 } }))
        .await;
    stage
        .until_pods(|pods| names_of(pods) == ["b-0", "b-1"])
        .await;
    assert_eq!(endpoints(&stage.until_delivered("b").await).len(), 2);
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
    stage.until_pods(<[Pod]>::is_empty).await;
}

#[tokio::test]
async fn a_missing_image_is_said_with_the_pod_and_the_phase_recovers() {
    let stage = Stage::set().await;
    let broken = json!([{ "metadata": { "labels": { "pretend": "no-image" } } }]);
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 2, "template": template(), "shardPatches": broken }),
        )
        .await;
    let failed = stage
        .until::<BatchSandbox>("b", |batch| {
            status(batch).phase == Some(BatchPhase::Failed) && status(batch).ready == 1
        })
        .await;
    let (kind, reason, message) = condition(&failed);
    assert_eq!(
        (kind.as_str(), reason.as_str()),
        ("PodFailed", "ImagePullFailed")
    );
    assert!(
        message.contains("1/2 pods failed") && message.contains("sample pod=b-0"),
        "{message}"
    );
    stage
        .change::<BatchSandbox>("b", json!({ "spec": { "shardPatches": null } }))
        .await;
    stage.delete::<Pod>("b-0").await;
    stage.until_delivered("b").await;
}

#[tokio::test]
async fn a_batch_without_pool_and_template_says_what_is_missing() {
    let stage = Stage::set().await;
    stage
        .make::<BatchSandbox>("b", json!({ "replicas": 1 }))
        .await;
    let told = stage
        .until::<BatchSandbox>("b", |batch| batch.status.is_some())
        .await;
    assert_eq!(condition(&told).1, "NoTemplate");
}

#[tokio::test]
async fn a_refused_pod_is_said_with_what_the_api_said() {
    let stage = Stage::set().await;
    let patch = json!({ "spec": { "containers": [{ "name": "Not_A_Name", "image": "i" }] } });
    let spec = json!({ "replicas": 1, "template": template(), "shardPatches": [patch] });
    stage.make::<BatchSandbox>("b", spec).await;
    let told = stage
        .until::<BatchSandbox>("b", |batch| status(batch).phase == Some(BatchPhase::Failed))
        .await;
    let (kind, reason, message) = condition(&told);
    assert_eq!(
        (kind.as_str(), reason.as_str()),
        ("PodFailed", "CreateRefused")
    );
    for part in ["Not_A_Name", "b-0, with shardPatches[0]"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn more_sandboxes_than_one_object_can_name_are_refused() {
    let stage = Stage::set().await;
    let batch = json!({ "apiVersion": names::API_VERSION, "kind": "BatchSandbox",
        "metadata": { "name": "b" },
        "spec": { "replicas": i32::MAX, "template": template() } });
    let batch: BatchSandbox = serde_json::from_value(batch).unwrap();
    let made = stage.api().create(&Default::default(), &batch).await;
    let refusal = made.unwrap_err().to_string();
    assert!(
        refusal.contains("spec.replicas") && refusal.contains("5000"),
        "{refusal}"
    );
}
