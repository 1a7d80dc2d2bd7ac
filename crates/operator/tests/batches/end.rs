//! Operators that are killed, at any moment of a batch's life.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandlot_api::opensandbox::{BatchSandbox, Pool, names};
use serde_json::json;

use crate::stage::*;

/// No pod is in two batches.
async fn check_no_pod_is_shared(stage: &Stage) {
    let batches = stage
        .api::<BatchSandbox>()
        .list(&ListParams::default())
        .await
        .unwrap();
    let mut owners: HashMap<String, String> = HashMap::new();
    for batch in batches {
        let back = listed(&batch, names::RELEASED);
        for pod in listed(&batch, names::ALLOCATED)
            .into_iter()
            .filter(|pod| !back.contains(pod))
        {
            if let Some(other) = owners.insert(pod.clone(), batch.name_any()) {
                panic!("{pod} is in {other} and in {}", batch.name_any());
            }
        }
    }
}

#[tokio::test]
async fn an_operator_killed_after_any_time_of_a_batchs_life_leaves_nothing_undone() {
    let mut stage = Stage::set().await;
    stage.pool("p", 3, 20).await;
    stage.until_available("p", 3).await;
    // Each life lasts a little longer until the kill, so that kills fall between all writes.
    for step in 0..12 {
        let name = format!("b{step}");
        let spec = json!({ "replicas": 2, "poolRef": "p",
            "taskTemplate": { "spec": { "process": { "command": ["hang"] } } } });
        stage.make::<BatchSandbox>(&name, spec).await;
        tokio::time::sleep(Duration::from_millis(step * 7)).await;
        stage.kill_operator().await;
        stage.start_operator();
        stage
            .until::<BatchSandbox>(&name, |batch| status(batch).task_running == 2)
            .await;
        check_no_pod_is_shared(&stage).await;
        stage.delete::<BatchSandbox>(&name).await;
        tokio::time::sleep(Duration::from_millis(step * 7)).await;
        stage.kill_operator().await;
        stage.start_operator();
        stage.until_gone::<BatchSandbox>(&name).await;
        let starts = stage.executors.started();
        let own = starts
            .iter()
            .filter(|(task, _)| task.starts_with(&format!("{name}-")));
        assert_eq!(own.count(), 2, "no task runs twice");
    }
    stage.until_available("p", 3).await;
    stage.until_pods(|pods| pods.len() == 3).await;
}

#[tokio::test]
async fn five_hundred_random_things_leave_no_pod_shared_and_none_behind() {
    let mut stage = Stage::set().await;
    let mut dice = StdRng::seed_from_u64(20_261_121);
    let pools = ["p", "q"];
    for pool in pools {
        stage.pool(pool, 4, 12).await;
    }
    let batches = stage.api::<BatchSandbox>();
    for step in 0..500 {
        let name = format!("b{}", dice.random_range(0..6));
        let pool = pools[dice.random_range(0..2)];
        let replicas = dice.random_range(0..5);
        let merge = |patch| Patch::Merge(patch);
        let params = PatchParams::default();
        match dice.random_range(0..20) {
            0..8 => {
                let batch = json!({ "apiVersion": names::API_VERSION, "kind": "BatchSandbox",
                    "metadata": { "name": name }, "spec": { "replicas": replicas, "poolRef": pool } });
                let batch = serde_json::from_value(batch).unwrap();
                let _ = batches.create(&PostParams::default(), &batch).await;
            }
            8..12 => {
                let _ = batches.delete(&name, &DeleteParams::default()).await;
            }
            12..15 => {
                let scaled = merge(json!({ "spec": { "replicas": replicas } }));
                let _ = batches.patch(&name, &params, &scaled).await;
            }
            15..16 => {
                let moved = merge(json!({ "spec": { "poolRef": pool } }));
                let _ = batches.patch(&name, &params, &moved).await;
            }
            16..19 => {
                let pods = stage.pods().await;
                if !pods.is_empty() {
                    let pod = pods[dice.random_range(0..pods.len())].name_any();
                    let _ = stage
                        .api::<Pod>()
                        .delete(&pod, &DeleteParams::default())
                        .await;
                }
            }
            _ => {
                stage.kill_operator().await;
                stage.start_operator();
            }
        }
        if step % 25 == 0 {
            check_no_pod_is_shared(&stage).await;
        }
    }
    // Room for everybody, and every batch comes to have what it wants.
    for pool in pools {
        stage
            .change::<Pool>(
                pool,
                json!({ "spec": { "capacitySpec": { "poolMax": 60 } } }),
            )
            .await;
    }
    for batch in batches.list(&ListParams::default()).await.unwrap() {
        if batch.metadata.deletion_timestamp.is_none() {
            stage.until_delivered(&batch.name_any()).await;
        }
    }
    check_no_pod_is_shared(&stage).await;
    for batch in batches.list(&ListParams::default()).await.unwrap() {
        let _ = batches
            .delete(&batch.name_any(), &DeleteParams::default())
            .await;
        stage.until_gone::<BatchSandbox>(&batch.name_any()).await;
    }
    stage.until_pods(|pods| pods.len() == 8).await;
}
