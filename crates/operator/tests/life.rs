//! What happens to pools, sandboxes and tasks over time: replaced, lost, expired, handed back.

mod stage;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::DeleteParams};
use sandlot_api::arl::{Sandbox, Task, TaskState, WarmPool, names};
use serde_json::json;
use stage::*;

#[tokio::test]
async fn a_deleted_idle_pod_is_replaced() {
    let stage = Stage::set().await;
    stage.pool("p", 2).await;
    stage.until_ready("p", 2).await;
    let lost = stage.pods().await[0].name_any();
    stage.delete::<Pod>(&lost).await;
    stage
        .until_pods(|pods| pods.len() == 2 && pods.iter().all(|pod| pod.name_any() != lost))
        .await;
}

#[tokio::test]
async fn scaling_down_to_nothing_removes_idle_pods_and_leaves_the_one_in_use() {
    let stage = Stage::set().await;
    stage.pool("p", 2).await;
    stage.sandbox("s", "p").await;
    let taken = pod_of(&stage.until_phase("s", "Ready").await);
    stage
        .change::<WarmPool>("p", json!({ "spec": { "replicas": 0 } }))
        .await;
    stage
        .until_pods(|pods| pods.len() == 1 && pods[0].name_any() == taken)
        .await;
    stage.sandbox("late", "p").await;
    assert_eq!(
        reason_of(&stage.until_phase("late", "Pending").await).0,
        "PoolStopped"
    );
}

#[tokio::test]
async fn a_new_template_reaches_every_idle_pod() {
    let stage = Stage::set().await;
    stage.pool("p", 3).await;
    stage.until_ready("p", 3).await;
    let mut template = template();
    template["metadata"] = json!({ "labels": { "version": "two" } });
    stage
        .change::<WarmPool>("p", json!({ "spec": { "template": template } }))
        .await;
    let renewed = |pods: &[Pod]| {
        pods.len() == 3 && pods.iter().all(|pod| pod.labels().contains_key("version"))
    };
    stage.until_pods(renewed).await;
}

#[tokio::test]
async fn pods_that_do_not_come_up_are_named_in_the_pool_and_in_the_waiting_sandbox() {
    let stage = Stage::set().await;
    let mut template = template();
    template["metadata"] = json!({ "annotations": { "pretend": "no image" } });
    stage
        .make::<WarmPool>("p", json!({ "replicas": 1, "template": template }))
        .await;
    let failing = |pool: &WarmPool| {
        trouble_of(pool).is_some_and(|(reason, message)| {
            reason == "ImagePullFailed" && message.contains("no such tag")
        })
    };
    stage.until::<WarmPool>("p", failing).await;
    stage.sandbox("s", "p").await;
    let told = |sandbox: &Sandbox| {
        sandbox.status.is_some() && reason_of(sandbox).1.contains("no such tag")
    };
    stage.until::<Sandbox>("s", told).await;
    stage.until_event("ImagePullFailed").await;
}

#[tokio::test]
async fn a_pod_that_dies_under_a_sandbox_fails_it_and_its_running_task() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let pod = pod_of(&stage.until_phase("s", "Ready").await);
    stage.task("t", "s", &["hang"]).await;
    stage.agent.until_started(1).await;
    stage.delete::<Pod>(&pod).await;
    let sandbox = stage.until_phase("s", "Failed").await;
    assert!(reason_of(&sandbox).1.contains(&pod));
    let status = stage.until_ended("t").await.status.unwrap();
    assert_eq!(status.state, Some(TaskState::Failed));
    assert!(status.completed_at.is_some());
    assert!(status.message.unwrap().contains("pod"));
    // Whoever comes after is told at once.
    stage.task("late", "s", &["say", "hi"]).await;
    assert_eq!(
        state_of(&stage.until_ended("late").await),
        Some(TaskState::Failed)
    );
}

#[tokio::test]
async fn deleting_a_pool_leaves_its_sandboxes_in_use_alone() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let taken = pod_of(&stage.until_phase("s", "Ready").await);
    stage.delete::<WarmPool>("p").await;
    stage.until_gone::<WarmPool>("p").await;
    let pod = stage.api::<Pod>().get(&taken).await.unwrap();
    let owners: Vec<_> = pod
        .owner_references()
        .iter()
        .map(|owner| owner.kind.as_str())
        .collect();
    assert_eq!(
        owners,
        ["Sandbox"],
        "the garbage collector will not take it with the pool"
    );
    stage.task("t", "s", &["say", "still here"]).await;
    assert_eq!(
        state_of(&stage.until_ended("t").await),
        Some(TaskState::Succeeded)
    );
}

#[tokio::test]
async fn a_finished_task_is_removed_after_its_time() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let spec = json!({ "sandboxRef": "s", "ttlSecondsAfterFinished": 1,
        "steps": [{ "name": "a", "type": "Command", "command": ["say", "hi"] }] });
    stage.make::<Task>("t", spec).await;
    stage.until_ended("t").await;
    stage.until_gone::<Task>("t").await;
}

#[tokio::test]
async fn a_sandbox_that_never_ran_anything_goes_when_it_was_idle_for_too_long() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    let spec =
        json!({ "poolRef": "p", "keepAlive": true, "idleTimeoutSeconds": 1, "resources": null });
    stage.make::<Sandbox>("s", spec).await;
    let pod = pod_of(&stage.until_phase("s", "Ready").await);
    stage.until_gone::<Sandbox>("s").await;
    stage.until_gone::<Pod>(&pod).await;
}

#[tokio::test]
async fn without_keep_alive_a_sandbox_goes_a_moment_after_its_last_task() {
    let stage = Stage::with(|settings| settings.grace = Duration::from_millis(700)).await;
    stage.pool("p", 1).await;
    stage.make::<Sandbox>("s", json!({ "poolRef": "p" })).await;
    stage.until_phase("s", "Ready").await;
    for name in ["first", "second"] {
        stage.task(name, "s", &["say", "hi"]).await;
        assert_eq!(
            state_of(&stage.until_ended(name).await),
            Some(TaskState::Succeeded)
        );
    }
    stage.until_gone::<Sandbox>("s").await;
}

#[tokio::test]
async fn a_pool_that_resets_its_pods_gives_the_same_pod_to_the_next_sandbox_clean() {
    let stage = Stage::set().await;
    let spec = json!({ "replicas": 1, "template": template(), "recycle": "Reset" });
    stage.make::<WarmPool>("p", spec).await;
    stage.sandbox("first", "p").await;
    let pod = pod_of(&stage.until_phase("first", "Ready").await);
    stage.delete::<Sandbox>("first").await;
    let back = |found: &Pod| {
        found
            .labels()
            .get(names::STATUS)
            .is_some_and(|status| status == "idle")
    };
    let returned = stage.until::<Pod>(&pod, back).await;
    assert_eq!(stage.agent.resets(), 1);
    assert!(!returned.annotations().contains_key(names::CLAIMED_BY));
    assert!(!returned.labels().contains_key(names::SANDBOX));
}

#[tokio::test]
async fn retries_start_a_failed_task_over() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let spec = json!({ "sandboxRef": "s", "retries": 1,
        "steps": [{ "name": "a", "type": "Command", "command": ["fail", "2"] }] });
    stage.make::<Task>("t", spec).await;
    let status = stage.until_ended("t").await.status.unwrap();
    assert_eq!((status.attempts, status.exit_code), (Some(2), Some(2)));
    assert_eq!(stage.agent.started().len(), 2);
}

#[tokio::test]
async fn a_step_out_of_time_ends_the_task_with_124() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let spec = json!({ "sandboxRef": "s", "timeout": "200ms",
        "steps": [{ "name": "slow", "type": "Command", "command": ["hang"] }] });
    stage.make::<Task>("t", spec).await;
    let status = stage.until_ended("t").await.status.unwrap();
    assert_eq!(status.exit_code, Some(124));
    assert!(status.message.unwrap().contains("timed out"));
}

#[tokio::test]
async fn a_finalizer_of_an_older_operator_does_not_hold_a_sandbox_for_ever() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage.until_phase("s", "Ready").await;
    let patch = json!({ "metadata": { "finalizers": [names::SANDBOX_FINALIZER] } });
    stage.change::<Sandbox>("s", patch).await;
    stage
        .api::<Sandbox>()
        .delete("s", &DeleteParams::default())
        .await
        .unwrap();
    stage.until_gone::<Sandbox>("s").await;
}
