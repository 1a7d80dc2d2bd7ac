//! Batches of one sandbox that are paused and resumed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sandlot_api::opensandbox::{BatchPhase, BatchSandbox, Condition, Pool, SandboxSnapshot, names};
use sandlot_operator::Snapshots;
use serde_json::{Value, json};

use crate::{
    saving::{PretendSaver, REGISTRY, Saving},
    stage::*,
};

async fn stage_that_saves() -> (Stage, Arc<PretendSaver>) {
    let saver = PretendSaver::new();
    let saving = Saving(saver.clone());
    let stage = Stage::with(|settings| settings.snapshots = Snapshots::By(Arc::new(saving))).await;
    (stage, saver)
}

async fn wish(stage: &Stage, name: &str, pause: Value) {
    stage
        .change::<BatchSandbox>(name, json!({ "spec": { "pause": pause } }))
        .await;
}

async fn until_phase(stage: &Stage, name: &str, phase: BatchPhase) -> BatchSandbox {
    stage
        .until::<BatchSandbox>(name, |batch| status(batch).phase == Some(phase))
        .await
}

fn named(batch: &BatchSandbox, kind: &str) -> Option<Condition> {
    let conditions = status(batch).conditions.unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition.kind == kind)
}

/// The image that the sandbox of a batch starts from.
fn image(batch: &BatchSandbox) -> String {
    let template = &batch.spec.template.as_ref().unwrap().0;
    template["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_paused_sandbox_is_saved_and_resumed_from_what_was_saved() {
    let (stage, saver) = stage_that_saves().await;
    stage
        .make::<BatchSandbox>("b", json!({ "replicas": 1, "template": template(),
            "shardPatches": [{ "spec": { "containers": [{ "name": "sandbox-container", "image": "patched" }] } }] }))
        .await;
    stage.until_delivered("b").await;
    wish(&stage, "b", json!(true)).await;
    let paused = until_phase(&stage, "b", BatchPhase::Paused).await;
    assert_eq!(condition(&paused).0, "Paused");
    assert_eq!(endpoints(&paused), Vec::<String>::new());
    stage.until_pods(<[_]>::is_empty).await;
    let saved = saver.saved();
    assert_eq!(saved.len(), 1, "{saved:?}");
    let (container, made) = &saved[0].containers[0];
    assert_eq!(container, "sandbox-container");
    assert_eq!(
        saved[0].containers.len(),
        1,
        "our own executor is not saved"
    );
    assert!(
        made.starts_with(&format!("{REGISTRY}/default/b-sandbox-container:snap-gen")),
        "{made}"
    );
    let snapshot: SandboxSnapshot = stage
        .until("b-pause", |snapshot: &SandboxSnapshot| {
            snapshot.status.is_some()
        })
        .await;
    let told = snapshot.status.unwrap();
    assert_eq!(told.containers[0].image_uri, *made);
    assert_eq!(told.source_pod_name.as_deref(), Some("b-0"));

    wish(&stage, "b", json!(false)).await;
    stage.until_delivered("b").await;
    let pods = stage.until_pods(|pods| pods.len() == 1).await;
    let spec = pods[0].spec.as_ref().unwrap();
    assert_eq!(spec.containers[0].image.as_deref(), Some(made.as_str()));
    assert_eq!(spec.image_pull_secrets.as_ref().unwrap()[0].name, "pull");
    stage.until_gone::<SandboxSnapshot>("b-pause").await;
    assert!(saver.forgotten().is_empty(), "its template names it");
    // A second pause makes the first image superfluous once it is resumed from the second.
    wish(&stage, "b", json!(true)).await;
    until_phase(&stage, "b", BatchPhase::Paused).await;
    wish(&stage, "b", json!(false)).await;
    let back = stage.until_delivered("b").await;
    assert_ne!(image(&back), *made);
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while saver.forgotten().len() < 2 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(saver.forgotten().contains(made) && saver.forgotten().contains(&image(&back)));
}

#[tokio::test]
async fn a_paused_sandbox_of_a_pool_leaves_it_and_comes_back_on_its_own() {
    let (stage, saver) = stage_that_saves().await;
    stage.pool("p", 1, 5).await;
    stage.until_available("p", 1).await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 1, "poolRef": "p", "template": { "spec": { "hostname": "unused",
                "containers": [{ "name": "other", "image": "other" }] } } }),
        )
        .await;
    let pod = listed(&stage.until_delivered("b").await, names::ALLOCATED)[0].clone();
    wish(&stage, "b", json!(true)).await;
    let paused = until_phase(&stage, "b", BatchPhase::Paused).await;
    assert_eq!(paused.spec.pool_ref, "");
    let template = &paused.spec.template.as_ref().unwrap().0;
    assert_eq!(
        template["spec"].get("hostname"),
        None,
        "its own pod's shape, nothing of the old template"
    );
    assert_eq!(saver.saved()[0].pod, pod);
    // The pool replaces the pod that came back.
    stage
        .until::<Pool>("p", |pool| {
            let status = pool.status.clone().unwrap_or_default();
            (status.available, status.allocated) == (1, 0)
        })
        .await;
    let pods = stage.pods().await;
    assert!(pods.iter().all(|other| other.name_any() != pod));
    wish(&stage, "b", json!(false)).await;
    let back = stage.until_delivered("b").await;
    assert_eq!(image(&back), saver.saved()[0].containers[0].1);
    stage
        .until_pods(|pods| pods.iter().any(|pod| pod.name_any() == "b-0"))
        .await;
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
}

#[tokio::test]
async fn a_task_is_stopped_before_its_sandbox_is_saved_and_begins_anew() {
    let (stage, saver) = stage_that_saves().await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 1, "template": template(),
            "taskTemplate": { "spec": { "process": { "command": ["hang"] } } } }),
        )
        .await;
    stage
        .until::<BatchSandbox>("b", |batch| status(batch).task_running == 1)
        .await;
    wish(&stage, "b", json!(true)).await;
    let paused = until_phase(&stage, "b", BatchPhase::Paused).await;
    assert_eq!(saver.saved().len(), 1);
    assert_eq!(stage.executors.started().len(), 1);
    assert_eq!(
        (status(&paused).task_running, status(&paused).task_pending),
        (0, 1)
    );
    wish(&stage, "b", json!(false)).await;
    stage
        .until::<BatchSandbox>("b", |batch| status(batch).task_running == 1)
        .await;
    assert_eq!(stage.executors.started().len(), 2);
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
}

#[tokio::test]
async fn what_cannot_be_paused_says_why_and_goes_on() {
    let (stage, saver) = stage_that_saves().await;
    stage
        .make::<BatchSandbox>("many", json!({ "replicas": 2, "template": template() }))
        .await;
    stage.until_delivered("many").await;
    wish(&stage, "many", json!(true)).await;
    let refused = stage
        .until::<BatchSandbox>("many", |batch| named(batch, "PauseFailed").is_some())
        .await;
    assert_eq!(status(&refused).phase, Some(BatchPhase::Succeed));
    let why = named(&refused, "PauseFailed").unwrap();
    assert_eq!(why.reason.as_deref(), Some("UnsupportedReplicas"));
    wish(&stage, "many", Value::Null).await;
    stage
        .until::<BatchSandbox>("many", |batch| named(batch, "PauseFailed").is_none())
        .await;

    saver.refuse(Some("the disk is full"));
    stage
        .make::<BatchSandbox>("one", json!({ "replicas": 1, "template": template() }))
        .await;
    stage.until_delivered("one").await;
    wish(&stage, "one", json!(true)).await;
    let failed = stage
        .until::<BatchSandbox>("one", |batch| named(batch, "PauseFailed").is_some())
        .await;
    assert_eq!(status(&failed).phase, Some(BatchPhase::Succeed));
    let why = named(&failed, "PauseFailed").unwrap();
    assert_eq!(why.reason.as_deref(), Some("SnapshotFailed"));
    assert!(why.message.unwrap().contains("the disk is full"));
    // Asked again, as clients do it, it is tried again.
    saver.refuse(None);
    wish(&stage, "one", Value::Null).await;
    wish(&stage, "one", json!(true)).await;
    until_phase(&stage, "one", BatchPhase::Paused).await;
}

#[tokio::test]
async fn what_was_not_saved_cannot_be_resumed_and_stays_paused() {
    let (stage, _) = stage_that_saves().await;
    stage
        .make::<BatchSandbox>("b", json!({ "replicas": 1, "template": template() }))
        .await;
    stage.until_delivered("b").await;
    wish(&stage, "b", json!(true)).await;
    until_phase(&stage, "b", BatchPhase::Paused).await;
    stage.delete::<SandboxSnapshot>("b-pause").await;
    stage.until_gone::<SandboxSnapshot>("b-pause").await;
    wish(&stage, "b", json!(false)).await;
    let failed = stage
        .until::<BatchSandbox>("b", |batch| named(batch, "ResumeFailed").is_some())
        .await;
    assert_eq!(status(&failed).phase, Some(BatchPhase::Paused));
    let why = named(&failed, "ResumeFailed").unwrap();
    assert_eq!(why.reason.as_deref(), Some("SnapshotNotFound"));
}

#[tokio::test]
async fn without_anywhere_to_save_to_a_sandbox_goes_on_and_its_task_too() {
    let stage = Stage::set().await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 1, "template": template(),
            "taskTemplate": { "spec": { "process": { "command": ["hang"] } } } }),
        )
        .await;
    stage
        .until::<BatchSandbox>("b", |batch| status(batch).task_running == 1)
        .await;
    wish(&stage, "b", json!(true)).await;
    let refused = stage
        .until::<BatchSandbox>("b", |batch| named(batch, "PauseFailed").is_some())
        .await;
    let why = named(&refused, "PauseFailed").unwrap();
    assert_eq!(why.reason.as_deref(), Some("RegistryNotConfigured"));
    assert_eq!(status(&refused).task_running, 1);
    assert_eq!(stage.executors.started().len(), 1);
}

#[tokio::test]
async fn an_operator_killed_at_any_step_of_a_pause_goes_on_from_there() {
    let (mut stage, saver) = stage_that_saves().await;
    stage.pool("p", 2, 10).await;
    for step in 0..10 {
        let name = format!("b{step}");
        let pool = if step % 2 == 0 { "p" } else { "" };
        stage
            .make::<BatchSandbox>(
                &name,
                json!({ "replicas": 1, "poolRef": pool, "template": template() }),
            )
            .await;
        stage.until_delivered(&name).await;
        let before = saver.saved().len();
        wish(&stage, &name, json!(true)).await;
        tokio::time::sleep(Duration::from_millis(step * 6)).await;
        stage.kill_operator().await;
        stage.start_operator();
        until_phase(&stage, &name, BatchPhase::Paused).await;
        let pods: Vec<_> = saver.saved()[before..]
            .iter()
            .map(|saved| saved.pod_uid.clone())
            .collect();
        assert!(
            pods.iter().all(|pod| *pod == pods[0]),
            "only the one pod that had somebody's files is ever saved"
        );
        wish(&stage, &name, json!(false)).await;
        tokio::time::sleep(Duration::from_millis(step * 6)).await;
        stage.kill_operator().await;
        stage.start_operator();
        let back = stage.until_delivered(&name).await;
        assert!(image(&back).starts_with(REGISTRY), "{}", image(&back));
        let pod: Pod = stage.api().get(&format!("{name}-0")).await.unwrap();
        let started = pod.spec.unwrap().containers[0].image.clone();
        assert_eq!(
            started,
            Some(image(&back)),
            "no pod is made of anything else"
        );
        stage.delete::<BatchSandbox>(&name).await;
        stage.until_gone::<BatchSandbox>(&name).await;
    }
    stage.until_available("p", 2).await;
}
