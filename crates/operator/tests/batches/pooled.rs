//! Batches from pools.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sandlot_api::opensandbox::{BatchPhase, BatchSandbox, Pool, names};
use serde_json::json;

use crate::stage::*;

#[tokio::test]
async fn a_batch_with_pool_and_template_is_delivered_from_the_pool() {
    let stage = Stage::set().await;
    stage.pool("p", 3, 20).await;
    stage.until_available("p", 3).await;
    stage.batch("b", "p", 3).await;
    let batch = stage.until_delivered("b").await;
    let given = listed(&batch, names::ALLOCATED);
    assert_eq!(given.len(), 3);
    assert!(given.iter().all(|pod| pod.starts_with("p-")), "{given:?}");
    let by_ip = stage.pod_by_ip().await;
    let pods: Vec<_> = endpoints(&batch)
        .iter()
        .map(|ip| by_ip[ip].clone())
        .collect();
    assert_eq!(pods, given, "addresses stand in the order of the pods");
    assert_eq!(condition(&batch).0, "Ready");
    let status = status(&batch);
    assert_eq!((status.replicas, status.allocated, status.ready), (3, 3, 3));
    assert!(
        batch
            .finalizers()
            .contains(&names::POOL_ALLOCATION.to_owned())
    );
    // The pool makes up for what was taken.
    stage
        .until::<Pool>("p", |pool| {
            let status = pool.status.clone().unwrap_or_default();
            (status.total, status.allocated, status.available) == (6, 3, 3)
        })
        .await;
}

#[tokio::test]
async fn a_deleted_batch_gives_its_pods_back_and_they_are_replaced() {
    let stage = Stage::set().await;
    stage.pool("p", 2, 20).await;
    stage.until_available("p", 2).await;
    stage.batch("b", "p", 2).await;
    let given: HashSet<_> = listed(&stage.until_delivered("b").await, names::ALLOCATED)
        .into_iter()
        .collect();
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
    stage
        .until_pods(|pods| {
            pods.len() == 2 && pods.iter().all(|pod| !given.contains(&pod.name_any()))
        })
        .await;
}

#[tokio::test]
async fn what_there_is_is_given_at_once_and_the_rest_later_oldest_batch_first() {
    let stage = Stage::set().await;
    stage.pool("p", 2, 2).await;
    stage.until_available("p", 2).await;
    stage.batch("first", "p", 3).await;
    let partly = stage
        .until::<BatchSandbox>("first", |batch| status(batch).ready == 2)
        .await;
    assert_eq!(status(&partly).phase, Some(BatchPhase::Pending));
    let (kind, reason, message) = condition(&partly);
    assert_eq!(
        (kind.as_str(), reason.as_str()),
        ("Progressing", "PoolExhausted")
    );
    assert!(message.contains("poolMax"), "{message}");
    stage.batch("second", "p", 1).await;
    stage
        .until::<BatchSandbox>("second", |batch| {
            status(batch).conditions.is_some_and(|found| {
                let message = found[0].message.clone().unwrap_or_default();
                message.contains("1 wanted by others")
            })
        })
        .await;
    // One more pod goes to the batch that waits longest, the next to the other.
    let more = |most: u32| json!({ "spec": { "capacitySpec": { "poolMax": most, "bufferMin": 0, "bufferMax": 0 } } });
    stage.change::<Pool>("p", more(3)).await;
    stage.until_delivered("first").await;
    assert_eq!(
        status(&stage.api::<BatchSandbox>().get("second").await.unwrap()).ready,
        0
    );
    stage.change::<Pool>("p", more(4)).await;
    stage.until_delivered("second").await;
}

#[tokio::test]
async fn a_lost_pod_is_replaced_at_its_own_place() {
    let stage = Stage::set().await;
    stage.pool("p", 3, 20).await;
    stage.until_available("p", 3).await;
    stage.batch("b", "p", 3).await;
    let before = stage.until_delivered("b").await;
    let given = listed(&before, names::ALLOCATED);
    stage.delete::<Pod>(&given[1]).await;
    let after = stage
        .until::<BatchSandbox>("b", |batch| {
            let now = listed(batch, names::ALLOCATED);
            now[1] != given[1] && status(batch).ready == 3
        })
        .await;
    let now = listed(&after, names::ALLOCATED);
    assert_eq!((&now[0], &now[2]), (&given[0], &given[2]));
    assert_eq!(endpoints(&after).len(), 3);
    assert_ne!(endpoints(&after)[1], endpoints(&before)[1]);
}

#[tokio::test]
async fn scaling_down_gives_back_the_highest_and_scaling_up_takes_more() {
    let stage = Stage::set().await;
    stage.pool("p", 3, 20).await;
    stage.until_available("p", 3).await;
    stage.batch("b", "p", 3).await;
    let given = listed(&stage.until_delivered("b").await, names::ALLOCATED);
    stage
        .change::<BatchSandbox>("b", json!({ "spec": { "replicas": 1 } }))
        .await;
    let small = stage
        .until::<BatchSandbox>("b", |batch| {
            listed(batch, names::ALLOCATED).len() == 1 && status(batch).ready == 1
        })
        .await;
    assert_eq!(listed(&small, names::ALLOCATED), given[..1]);
    assert_eq!(endpoints(&small).len(), 1);
    stage
        .until_pods(|pods| pods.iter().all(|pod| !given[1..].contains(&pod.name_any())))
        .await;
    stage
        .change::<BatchSandbox>("b", json!({ "spec": { "replicas": 4 } }))
        .await;
    let large = stage.until_delivered("b").await;
    assert_eq!(listed(&large, names::ALLOCATED)[0], given[0]);
    assert_eq!(endpoints(&large).iter().collect::<HashSet<_>>().len(), 4);
}

#[tokio::test]
async fn a_pool_deleted_first_leaves_its_batches_alone_until_they_go() {
    let stage = Stage::set().await;
    stage.pool("p", 3, 20).await;
    stage.until_available("p", 3).await;
    stage.batch("b", "p", 2).await;
    let given = listed(&stage.until_delivered("b").await, names::ALLOCATED);
    stage.delete::<Pool>("p").await;
    stage.until_gone::<Pool>("p").await;
    stage
        .until_pods(|pods| {
            let left: HashSet<_> = pods.iter().map(ResourceExt::name_any).collect();
            left == given.iter().cloned().collect()
        })
        .await;
    assert_eq!(status(&stage.until_delivered("b").await).ready, 2);
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
    stage.until_pods(<[Pod]>::is_empty).await;
}

#[tokio::test]
async fn another_pool_reference_keeps_the_pods_and_serves_the_rest() {
    let stage = Stage::set().await;
    for pool in ["old", "new"] {
        stage.pool(pool, 2, 20).await;
        stage.until_available(pool, 2).await;
    }
    stage.batch("b", "old", 2).await;
    let given = listed(&stage.until_delivered("b").await, names::ALLOCATED);
    stage
        .change::<BatchSandbox>("b", json!({ "spec": { "poolRef": "new", "replicas": 3 } }))
        .await;
    let batch = stage.until_delivered("b").await;
    let now = listed(&batch, names::ALLOCATED);
    assert_eq!(now[..2], given[..]);
    assert!(now[2].starts_with("new-"), "{now:?}");
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
}

#[tokio::test]
async fn a_batch_that_leaves_the_choice_gets_a_pool_that_suits() {
    let stage = Stage::set().await;
    stage.batch("b", "*", 1).await;
    let waiting = stage
        .until::<BatchSandbox>("b", |batch| batch.status.is_some())
        .await;
    assert_eq!(condition(&waiting).1, "NoPoolSuits");
    let mut other = template();
    other["spec"]["containers"] = json!([{ "name": "x", "image": "python" }]);
    let capacity = json!({ "bufferMin": 1, "bufferMax": 1, "poolMin": 1, "poolMax": 5 });
    stage
        .make::<Pool>(
            "a-other",
            json!({ "template": other, "capacitySpec": capacity }),
        )
        .await;
    stage.pool("fits", 1, 5).await;
    let batch = stage.until_delivered("b").await;
    assert_eq!(batch.spec.pool_ref, "fits");
}

#[tokio::test]
async fn an_annotation_that_cannot_be_read_harms_nobody_and_can_be_mended() {
    let stage = Stage::set().await;
    stage.pool("p", 1, 5).await;
    stage.until_available("p", 1).await;
    let spec = json!({ "replicas": 1, "poolRef": "p" });
    let batch = json!({ "apiVersion": names::API_VERSION, "kind": "BatchSandbox",
        "metadata": { "name": "b", "annotations": { (names::ALLOCATED): "{oops" } }, "spec": spec });
    let batch: BatchSandbox = serde_json::from_value(batch).unwrap();
    let api = stage.api::<BatchSandbox>();
    api.create(&Default::default(), &batch).await.unwrap();
    let told = stage
        .until::<BatchSandbox>("b", |batch| batch.status.is_some())
        .await;
    assert_eq!(condition(&told).1, "IllegibleAnnotation");
    stage.batch("other", "p", 1).await;
    stage.until_delivered("other").await;
    let mended = json!({ "metadata": { "annotations": { (names::ALLOCATED): "{\"pods\":[]}" } } });
    stage.change::<BatchSandbox>("b", mended).await;
    stage.until_delivered("b").await;
}

#[tokio::test]
async fn a_batch_expires_when_its_time_is_over() {
    let stage = Stage::set().await;
    stage.pool("p", 1, 5).await;
    stage.until_available("p", 1).await;
    stage.batch("b", "p", 1).await;
    stage.until_delivered("b").await;
    let renewed = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    stage
        .change::<BatchSandbox>(
            "b",
            json!({ "spec": { "expireTime": renewed.to_string() } }),
        )
        .await;
    stage.until_delivered("b").await;
    stage
        .change::<BatchSandbox>(
            "b",
            json!({ "spec": { "expireTime": "2020-01-01T00:00:00.123456+00:00" } }),
        )
        .await;
    stage.until_gone::<BatchSandbox>("b").await;
}
