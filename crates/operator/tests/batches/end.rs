//! Operators that are killed, at any moment of a batch's life.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandlot_api::opensandbox::{BatchSandbox, Pool, names};
use serde_json::json;

use crate::stage::*;

/// How long a batch's life may take, on however busy a machine.
const LONG: Duration = Duration::from_secs(120);

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

/// Waits until a batch has been written so often, its making included; whether it was, before it
/// was done with what it is at, or gone.
async fn is_written(
    stage: &Stage,
    name: &str,
    times: usize,
    done: impl Fn(&BatchSandbox) -> bool,
) -> bool {
    let batches = stage.api::<BatchSandbox>();
    let params = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = batches.watch(&params, "0").await.unwrap().boxed();
    if batches.get_opt(name).await.unwrap().is_none() {
        return false;
    }
    let mut versions = HashSet::new();
    let counting = async {
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                WatchEvent::Added(batch) | WatchEvent::Modified(batch) => {
                    versions.insert(batch.resource_version());
                    if versions.len() == times || done(&batch) {
                        break;
                    }
                }
                WatchEvent::Deleted(_) => break,
                _ => {}
            }
        }
        versions.len() == times
    };
    let counted = tokio::time::timeout(LONG, counting).await;
    counted.expect("a batch comes to an end of what it is at")
}

#[tokio::test]
async fn an_operator_killed_at_any_write_of_a_batchs_life_leaves_nothing_undone() {
    let mut stage = Stage::set().await;
    stage.pool("p", 3, 20).await;
    stage.until_available("p", 3).await;
    let (mut step, mut goes_on) = (1, true);
    while goes_on {
        let name = format!("b{step}");
        let spec = json!({ "replicas": 2, "poolRef": "p",
            "taskTemplate": { "spec": { "process": { "command": ["hang"] } } } });
        stage.make::<BatchSandbox>(&name, spec).await;
        let runs = |batch: &BatchSandbox| status(batch).task_running == 2;
        goes_on = is_written(&stage, &name, step, runs).await;
        stage.kill_operator().await;
        stage.start_operator();
        stage.until::<BatchSandbox>(&name, runs).await;
        check_no_pod_is_shared(&stage).await;
        // The end of it has as many writes at the most.
        stage.delete::<BatchSandbox>(&name).await;
        is_written(&stage, &name, step, |_| false).await;
        stage.kill_operator().await;
        stage.start_operator();
        stage.until_gone::<BatchSandbox>(&name).await;
        let starts = stage.executors.started();
        let own = starts
            .iter()
            .filter(|(task, _)| task.starts_with(&format!("{name}-")));
        assert_eq!(own.count(), 2, "no task runs twice");
        step += 1;
    }
    assert!(step > 3, "a batch's life has several writes: {step}");
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
        match dice.random_range(0..22) {
            0..8 => {
                let mut batch = json!({ "apiVersion": names::API_VERSION, "kind": "BatchSandbox",
                    "metadata": { "name": name }, "spec": { "replicas": replicas, "poolRef": pool } });
                if dice.random_bool(0.4) {
                    batch["spec"]["taskTemplate"] =
                        json!({ "spec": { "process": { "command": ["hang"] } } });
                }
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
            19..21 => {
                let pods = stage.pods().await;
                if !pods.is_empty() {
                    let pod = pods[dice.random_range(0..pods.len())].name_any();
                    stage.executors.kill(&pod, dice.random_bool(0.5));
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
