//! Pools by themselves.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use sandlot_api::opensandbox::{BatchSandbox, Pool, names};
use serde_json::json;

use crate::stage::*;

#[tokio::test]
async fn the_documents_pool_fills_and_says_so() {
    let stage = Stage::set().await;
    let capacity = json!({ "bufferMax": 10, "bufferMin": 2, "poolMax": 20, "poolMin": 5 });
    let pool = json!({ "template": template(), "capacitySpec": capacity });
    stage.make::<Pool>("example-pool", pool).await;
    let pool = stage
        .until::<Pool>("example-pool", |pool| {
            pool.status
                .as_ref()
                .is_some_and(|status| status.available >= 5)
        })
        .await;
    let status = pool.status.unwrap();
    assert_eq!(status.total, status.available);
    assert!(status.total <= 10, "{status:?}");
    assert_eq!((status.allocated, status.updated), (0, status.total));
    assert_eq!(status.revision.len(), 16);
    for pod in stage.pods().await {
        assert_eq!(pod.labels()[names::POOL], "example-pool");
        assert_eq!(pod.labels()[names::POOL_REVISION], status.revision);
        assert!(pod.name_any().starts_with("example-pool-"));
        assert_eq!(pod.owner_references()[0].kind, "Pool");
    }
}

#[tokio::test]
async fn a_new_template_replaces_idle_pods_and_leaves_those_in_use() {
    let stage = Stage::set().await;
    stage.pool("p", 2, 20).await;
    stage.until_available("p", 2).await;
    stage.batch("b", "p", 1).await;
    let used = listed(&stage.until_delivered("b").await, names::ALLOCATED);
    stage.until_available("p", 2).await;
    let mut changed = template();
    changed["metadata"] = json!({ "labels": { "version": "two" } });
    stage
        .change::<Pool>("p", json!({ "spec": { "template": changed } }))
        .await;
    stage
        .until_pods(|pods| {
            let new = |pod: &&Pod| pod.labels().get("version").is_some_and(|v| v == "two");
            pods.iter().filter(new).count() == 2 && pods.len() == 3
        })
        .await;
    assert!(
        stage
            .pods()
            .await
            .iter()
            .any(|pod| pod.name_any() == used[0])
    );
    stage
        .until::<Pool>("p", |pool| {
            pool.status
                .as_ref()
                .is_some_and(|status| (status.total, status.updated) == (3, 2))
        })
        .await;
}

#[tokio::test]
async fn a_pod_marked_for_eviction_goes_only_when_nobody_has_it() {
    let stage = Stage::set().await;
    stage.pool("p", 1, 20).await;
    stage.until_available("p", 1).await;
    stage.batch("b", "p", 1).await;
    let used = listed(&stage.until_delivered("b").await, names::ALLOCATED)[0].clone();
    let evict = Patch::Merge(json!({ "metadata": { "labels": { (names::EVICT): "" } } }));
    // The one in use and the one that took its place.
    let before = stage.until_pods(|pods| pods.len() == 2).await;
    for pod in &before {
        stage
            .api::<Pod>()
            .patch(&pod.name_any(), &PatchParams::default(), &evict)
            .await
            .unwrap();
    }
    let idle: Vec<_> = before
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| *name != used)
        .collect();
    stage
        .until_pods(|pods| {
            let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
            !names.contains(&idle[0]) && names.contains(&used) && names.len() == 2
        })
        .await;
    stage.delete::<BatchSandbox>("b").await;
    stage
        .until_pods(|pods| pods.iter().all(|pod| pod.name_any() != used))
        .await;
}

#[tokio::test]
async fn a_pool_that_recycles_nothing_gives_the_same_pod_again() {
    let stage = Stage::set().await;
    let pool = json!({ "template": template(), "recycleStrategy": { "type": "Noop" },
        "capacitySpec": { "bufferMin": 1, "bufferMax": 1, "poolMin": 1, "poolMax": 1 } });
    stage.make::<Pool>("p", pool).await;
    stage.until_available("p", 1).await;
    let mut given = Vec::new();
    for name in ["one", "two"] {
        stage.batch(name, "p", 1).await;
        given.push(listed(&stage.until_delivered(name).await, names::ALLOCATED));
        stage.delete::<BatchSandbox>(name).await;
        stage.until_gone::<BatchSandbox>(name).await;
    }
    assert_eq!(given[0], given[1]);
}

/// The pod that a test makes itself, with the labels of a pool's.
fn bearing(pool: &str) -> Pod {
    let pod = json!({ "metadata": { "name": "by-hand", "labels": { (names::POOL): pool } },
        "spec": { "containers": [{ "name": "sandbox-container", "image": "ubuntu:latest" }] } });
    serde_json::from_value(pod).unwrap()
}

#[tokio::test]
async fn a_pod_that_only_bears_a_pools_name_is_neither_given_out_nor_deleted() {
    let stage = Stage::set().await;
    let pod = bearing("p");
    let pods = stage.api::<Pod>();
    pods.create(&Default::default(), &pod).await.unwrap();
    stage
        .until_pods(|pods| {
            let status = pods.first().and_then(|pod| pod.status.as_ref());
            status.is_some_and(|status| status.phase.as_deref() == Some("Running"))
        })
        .await;
    stage.pool("p", 0, 1).await;
    stage.batch("b", "p", 1).await;
    let given = listed(&stage.until_delivered("b").await, names::ALLOCATED);
    assert_ne!(given, ["by-hand"]);
    stage.delete::<BatchSandbox>("b").await;
    stage.delete::<Pool>("p").await;
    stage.until_gone::<Pool>("p").await;
    stage.until_pods(|pods| pods.len() == 1).await;
    let left = pods.get("by-hand").await.unwrap();
    assert_eq!(left.metadata.deletion_timestamp, None);
}

#[tokio::test]
async fn a_pod_nobody_knows_how_to_restart_is_deleted_and_the_pool_says_why() {
    let stage = Stage::set().await;
    let pool = json!({ "apiVersion": names::API_VERSION, "kind": "Pool",
        "metadata": { "name": "p", "annotations": { (names::RESTART_CONFIG): "{\"blacklist\": \"sidecar\"}" } },
        "spec": { "template": template(), "recycleStrategy": { "type": "Restart" },
            "capacitySpec": { "bufferMin": 1, "bufferMax": 1, "poolMin": 1, "poolMax": 1 } } });
    let pool: Pool = serde_json::from_value(pool).unwrap();
    let pools = stage.api::<Pool>();
    pools.create(&Default::default(), &pool).await.unwrap();
    stage.until_available("p", 1).await;
    stage.batch("b", "p", 1).await;
    let given = listed(&stage.until_delivered("b").await, names::ALLOCATED);
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
    stage
        .until_pods(|pods| pods.iter().all(|pod| pod.name_any() != given[0]))
        .await;
    let note = stage.until_event("IllegibleAnnotation").await;
    assert!(note.contains(names::RESTART_CONFIG), "{note}");
}
