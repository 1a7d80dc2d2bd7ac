//! The operator ends in the middle of things; the next one takes up where it left.

mod stage;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use rand::RngExt;
use sandlot_api::arl::{Sandbox, Task, TaskState, names};
use serde_json::json;
use stage::*;

#[tokio::test]
async fn a_running_step_is_attached_to_and_never_started_twice() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage.task("t", "s", &["hang"]).await;
    stage.agent.until_started(1).await;
    stage
        .until::<Task>("t", |task| state_of(task) == Some(TaskState::Running))
        .await;
    stage.kill_operator().await;
    let asked = stage.agent.asked();
    stage.start_operator();
    while stage.agent.asked() == asked {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.agent.started().len(), 1);
    stage.agent.release();
    assert_eq!(
        state_of(&stage.until_ended("t").await),
        Some(TaskState::Succeeded)
    );
    assert!(!stage.agent.killed());
}

#[tokio::test]
async fn a_task_that_ended_while_nobody_watched_is_written_down_as_it_ended() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let spec = json!({ "sandboxRef": "s", "timeout": "1s", "steps": [
        { "name": "write", "type": "FilePatch", "path": "/workspace/a", "content": "first" },
        { "name": "run", "type": "Command", "command": ["hang"] } ] });
    stage.make::<Task>("t", spec).await;
    stage.agent.until_started(1).await;
    stage
        .until::<Task>("t", |task| state_of(task) == Some(TaskState::Running))
        .await;
    stage.stop_operator().await;
    stage.agent.release();
    // Long enough for the task's own time to be over when the next operator looks.
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    stage.start_operator();
    let status = stage.until_ended("t").await.status.unwrap();
    assert_eq!(status.state, Some(TaskState::Succeeded), "{status:#?}");
    assert_eq!(stage.agent.started().len(), 1);
}

#[tokio::test]
async fn a_pod_given_but_not_told_of_is_told_of_by_the_next_operator() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.until_ready("p", 1).await;
    stage.kill_operator().await;
    let sandbox = stage.sandbox("s", "p").await;
    let pod = stage.pods().await[0].name_any();
    // Just what a claim writes before it writes the sandbox's status.
    let claim = json!({ "metadata": {
        "labels": { names::STATUS: "allocated", names::POD_STATE: "allocated" },
        "annotations": { names::CLAIMED_BY: sandbox.uid().unwrap() } } });
    stage.change::<Pod>(&pod, claim).await;
    stage.start_operator();
    assert_eq!(pod_of(&stage.until_phase("s", "Ready").await), pod);
}

#[tokio::test]
async fn a_sandbox_deleted_while_nobody_watched_leaves_no_pod_behind() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let pod = pod_of(&stage.until_phase("s", "Ready").await);
    stage.until_ready("p", 1).await;
    stage.kill_operator().await;
    stage.delete::<Sandbox>("s").await;
    stage.start_operator();
    stage.until_gone::<Pod>(&pod).await;
}

#[tokio::test]
async fn of_two_pods_claimed_for_one_sandbox_it_keeps_the_one_its_status_names() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let sandbox = stage.until_phase("s", "Ready").await;
    stage.until_ready("p", 1).await;
    stage.kill_operator().await;
    let own = pod_of(&sandbox);
    let other = stage
        .pods()
        .await
        .into_iter()
        .find(|pod| pod.name_any() != own)
        .unwrap()
        .name_any();
    let claim =
        json!({ "metadata": { "annotations": { names::CLAIMED_BY: sandbox.uid().unwrap() } } });
    stage.change::<Pod>(&other, claim).await;
    stage.start_operator();
    stage.until_gone::<Pod>(&other).await;
    assert_eq!(pod_of(&stage.until_phase("s", "Ready").await), own);
}

#[tokio::test]
async fn what_runs_for_a_task_deleted_while_nobody_watched_is_ended() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage.task("gone", "s", &["hang", "gone"]).await;
    stage.agent.until_started(1).await;
    stage.kill_operator().await;
    stage.delete::<Task>("gone").await;
    stage.start_operator();
    stage.agent.until_killed().await;
}

#[tokio::test]
async fn a_task_made_while_nobody_watched_runs_once() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage.until_phase("s", "Ready").await;
    stage.kill_operator().await;
    stage.task("t", "s", &["say", "hi"]).await;
    stage.start_operator();
    assert_eq!(
        state_of(&stage.until_ended("t").await),
        Some(TaskState::Succeeded)
    );
    assert_eq!(stage.agent.started(), ["say hi"]);
}

#[tokio::test]
async fn between_two_steps_what_is_done_stays_done() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let spec = json!({ "sandboxRef": "s", "timeout": "10m", "steps": [
        { "name": "one", "type": "Command", "command": ["say", "one"] },
        { "name": "two", "type": "FilePatch", "path": "/workspace/a", "content": "first" },
        { "name": "three", "type": "Command", "command": ["hang", "three"] },
        { "name": "four", "type": "Command", "command": ["say", "four"] } ] });
    stage.make::<Task>("t", spec).await;
    stage.agent.until_started(2).await;
    // Not even that it runs has been written down.
    stage.kill_operator().await;
    stage.start_operator();
    stage
        .until::<Task>("t", |task| state_of(task) == Some(TaskState::Running))
        .await;
    stage.agent.release();
    let status = stage.until_ended("t").await.status.unwrap();
    assert_eq!(status.state, Some(TaskState::Succeeded), "{status:#?}");
    assert_eq!(status.steps.unwrap()[0].stdout.as_deref(), Some("one\n"));
    let mut started = stage.agent.started();
    started.sort();
    assert_eq!(started, ["hang three", "say four", "say one"]);
}

#[tokio::test]
async fn a_second_attempt_goes_on_and_the_first_is_not_made_again() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let spec = json!({ "sandboxRef": "s", "retries": 1, "timeout": "10m", "steps": [
        { "name": "one", "type": "Command", "command": ["fail", "3"] } ] });
    stage.make::<Task>("t", spec).await;
    stage.agent.until_started(1).await;
    stage.kill_operator().await;
    stage.start_operator();
    let status = stage.until_ended("t").await.status.unwrap();
    assert_eq!((status.attempts, status.exit_code), (Some(2), Some(3)));
    assert_eq!(stage.agent.started().len(), 2);
}

#[tokio::test]
async fn what_has_ended_and_been_told_is_left_alone_and_what_waits_comes_next() {
    let mut stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage.task("done", "s", &["say", "done"]).await;
    let done = stage.until_ended("done").await;
    stage.task("now", "s", &["hang", "now"]).await;
    stage.agent.until_started(2).await;
    stage.task("next", "s", &["say", "next"]).await;
    stage.kill_operator().await;
    stage.start_operator();
    stage
        .until::<Task>("now", |task| state_of(task) == Some(TaskState::Running))
        .await;
    assert_eq!(stage.agent.started().len(), 2, "one after the other");
    stage.agent.release();
    assert_eq!(
        state_of(&stage.until_ended("next").await),
        Some(TaskState::Succeeded)
    );
    let still = stage.api::<Task>().get("done").await.unwrap();
    assert_eq!(still.resource_version(), done.resource_version());
    assert_eq!(stage.agent.started().len(), 3);
}

/// Tasks of three steps in a few sandboxes, while the operator is killed at any moment of their
/// lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_crashes_every_step_of_every_task_runs_once_and_none_is_forgotten() {
    const TASKS: usize = 150;
    const SANDBOXES: usize = 6;
    let mut stage = Stage::set().await;
    stage.pool("p", 2).await;
    for number in 0..SANDBOXES {
        stage.sandbox(&format!("s{number}"), "p").await;
    }
    let mut random = rand::rng();
    let mut made = 0;
    while made < TASKS {
        for _ in 0..random.random_range(1..12) {
            let name = format!("t{made}");
            let sandbox = format!("s{}", made % SANDBOXES);
            let spec = json!({ "sandboxRef": sandbox, "timeout": "10m", "steps": [
                { "name": "one", "type": "Command", "command": ["say", format!("one {name}")] },
                { "name": "two", "type": "FilePatch", "path": format!("/workspace/{name}"), "content": name },
                { "name": "three", "type": "Command", "command": ["say", format!("three {name}")] } ] });
            stage.make::<Task>(&name, spec).await;
            made += 1;
        }
        let pause = random.random_range(0..80);
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        stage.kill_operator().await;
        stage.start_operator();
    }
    for number in 0..made {
        let status = stage
            .until_ended(&format!("t{number}"))
            .await
            .status
            .unwrap();
        assert_eq!(status.state, Some(TaskState::Succeeded), "{status:#?}");
        assert_eq!(status.stdout, Some(format!("three t{number}\n")));
        assert_eq!(status.attempts, Some(1));
    }
    assert_eq!(stage.agent.files().len(), made);
    let mut started = stage.agent.started();
    started.sort();
    let count = started.len();
    started.dedup();
    assert_eq!((started.len(), count), (2 * made, 2 * made));
}

/// Clients and a small pool, while the operator is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_crashes_no_pod_goes_to_two_and_none_is_lost() {
    const CLAIMS: usize = 120;
    let mut stage = Stage::set().await;
    stage.pool("p", 8).await;
    let mut random = rand::rng();
    let mut made = 0;
    while made < CLAIMS {
        for _ in 0..random.random_range(1..20) {
            stage.sandbox(&format!("s{made}"), "p").await;
            made += 1;
        }
        let pause = random.random_range(0..40);
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        stage.kill_operator().await;
        stage.start_operator();
    }
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for number in 0..made {
        let name = format!("s{number}");
        let pod = pod_of(&stage.until_phase(&name, "Ready").await);
        if let Some(other) = owners.insert(pod.clone(), name.clone()) {
            panic!("pod {pod} was given to {other} and to {name}");
        }
    }
    // Every taken pod has its sandbox, and the pool is full again.
    let settled = |pods: &[Pod]| {
        let taken = pods
            .iter()
            .filter(|pod| pod.annotations().contains_key(names::CLAIMED_BY));
        pods.len() == made + 8 && taken.count() == made
    };
    let pods = stage.until_pods(settled).await;
    for pod in pods
        .iter()
        .filter(|pod| pod.annotations().contains_key(names::CLAIMED_BY))
    {
        assert!(
            owners.contains_key(&pod.name_any()),
            "{} is leaked",
            pod.name_any()
        );
    }
    let all = stage
        .api::<Sandbox>()
        .list(&ListParams::default())
        .await
        .unwrap();
    for sandbox in all {
        stage.delete::<Sandbox>(&sandbox.name_any()).await;
    }
    stage.until_pods(|pods| pods.len() == 8).await;
    // A patch that changes nothing still goes through: the API is in good order.
    let nothing = Patch::Merge(json!({}));
    stage
        .api::<sandlot_api::arl::WarmPool>()
        .patch("p", &PatchParams::default(), &nothing)
        .await
        .unwrap();
}
