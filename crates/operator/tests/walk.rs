//! The documents' walk: a pool, a sandbox, a task, its output.

mod stage;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use sandlot_api::arl::{Sandbox, Task, TaskState};
use serde_json::json;
use stage::*;

#[tokio::test]
async fn hello_from_arl() {
    let stage = Stage::set().await;
    stage.pool("python-pool", 3).await;
    let pool = stage.until_ready("python-pool", 3).await;
    let status = pool.status.unwrap();
    assert_eq!((status.ready, status.total, status.allocated), (3, 3, 0));

    stage.sandbox("my-workspace", "python-pool").await;
    let sandbox = stage.until_phase("my-workspace", "Ready").await;
    assert_eq!(sandbox.status.unwrap().pod_ip.as_deref(), Some("127.0.0.1"));

    stage
        .make::<Task>(
            "hello-task",
            json!({ "sandboxRef": "my-workspace", "timeout": "30s", "steps": [
                { "name": "write-code", "type": "FilePatch", "path": "/workspace/hello.py", "content": "print('Hello')" },
                { "name": "run-code", "type": "Command", "command": ["say", "Hello from ARL!"] },
            ] }),
        )
        .await;
    let task = stage.until_ended("hello-task").await;
    let status = task.status.unwrap();
    assert_eq!(status.state, Some(TaskState::Succeeded), "{status:#?}");
    assert_eq!(status.stdout.as_deref(), Some("Hello from ARL!\n"));
    assert_eq!(status.exit_code, Some(0));
    assert_eq!(status.started_at, status.start_time);
    assert_eq!(status.completed_at, status.completion_time);
    assert_eq!(status.steps.unwrap().len(), 2);
    assert_eq!(stage.agent.files()["/workspace/hello.py"], "print('Hello')");
}

#[tokio::test]
async fn a_claimed_pod_is_labelled_in_both_spellings_and_replaced_in_the_pool() {
    let stage = Stage::set().await;
    stage.pool("p", 2).await;
    stage.until_ready("p", 2).await;
    stage.sandbox("s", "p").await;
    let name = pod_of(&stage.until_phase("s", "Ready").await);
    let pod = stage.api::<Pod>().get(&name).await.unwrap();
    for (label, value) in [
        ("arl.infra.io/pod-state", "allocated"),
        ("arl.infra.io/status", "allocated"),
        ("arl.infra.io/sandbox", "s"),
        ("arl.infra.io/warmpool", "p"),
        ("arl.infra.io/pool", "p"),
    ] {
        assert_eq!(pod.labels()[label], value, "{label}");
    }
    let pool = stage.until_ready("p", 2).await;
    stage
        .until::<sandlot_api::arl::WarmPool>("p", |pool| {
            let status = pool.status.as_ref().unwrap();
            (status.ready, status.allocated, status.total) == (2, 1, 3)
        })
        .await;
    assert_eq!(pool.name_any(), "p");
}

#[tokio::test]
async fn a_sandbox_applied_before_its_pool_says_so_and_gets_a_pod_later() {
    let stage = Stage::set().await;
    stage.sandbox("s", "later").await;
    let (reason, message) = reason_of(&stage.until_phase("s", "Pending").await);
    assert_eq!(reason, "PoolNotFound");
    assert!(message.contains("\"later\""), "{message}");
    stage.pool("later", 1).await;
    stage.until_phase("s", "Ready").await;
}

#[tokio::test]
async fn a_task_applied_before_its_sandbox_waits_for_it() {
    let stage = Stage::set().await;
    stage.task("t", "s", &["say", "hi"]).await;
    let waiting = |task: &Task| state_of(task) == Some(TaskState::Pending);
    let task = stage.until::<Task>("t", waiting).await;
    assert!(
        task.status
            .unwrap()
            .message
            .unwrap()
            .contains("does not exist yet")
    );
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    assert_eq!(
        state_of(&stage.until_ended("t").await),
        Some(TaskState::Succeeded)
    );
}

#[tokio::test]
async fn tasks_of_one_sandbox_run_in_the_order_in_which_they_were_made() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage.until_phase("s", "Ready").await;
    // Named against the alphabet, made within one second.
    for name in ["c", "b", "a"] {
        stage.task(name, "s", &["hang", name]).await;
    }
    for (count, name) in ["c", "b", "a"].iter().enumerate() {
        stage.agent.until_started(count + 1).await;
        assert!(stage.agent.started().contains(&format!("hang {name}")));
        assert_eq!(stage.agent.started().len(), count + 1);
        stage.until_phase("s", "Bound").await;
        stage.agent.release();
        stage.until_ended(name).await;
    }
    let sandbox = stage.until_phase("s", "Ready").await;
    assert!(sandbox.status.unwrap().last_task_time.is_some());
}

#[tokio::test]
async fn the_first_failing_step_ends_the_task_with_its_code_and_words() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage
        .make::<Task>(
            "t",
            json!({ "sandboxRef": "s", "steps": [
                { "name": "one", "type": "Command", "command": ["say", "one"] },
                { "name": "two", "type": "Command", "command": ["fail", "3"] },
                { "name": "three", "type": "Command", "command": ["say", "three"] },
            ] }),
        )
        .await;
    let status = stage.until_ended("t").await.status.unwrap();
    assert_eq!(
        (status.state, status.exit_code),
        (Some(TaskState::Failed), Some(3))
    );
    assert_eq!(status.message.as_deref(), Some("step \"two\": exit code 3"));
    let states: Vec<_> = status
        .steps
        .unwrap()
        .iter()
        .map(|step| format!("{:?}", step.state.unwrap()))
        .collect();
    assert_eq!(states, ["Succeeded", "Failed", "Skipped"]);
}

#[tokio::test]
async fn deleting_a_running_task_kills_what_it_runs_and_lets_the_next_one_start() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    stage.task("long", "s", &["hang"]).await;
    stage.task("next", "s", &["say", "hi"]).await;
    stage.agent.until_started(1).await;
    stage.delete::<Task>("long").await;
    stage.agent.until_killed().await;
    assert_eq!(
        state_of(&stage.until_ended("next").await),
        Some(TaskState::Succeeded)
    );
}

#[tokio::test]
async fn deleting_a_sandbox_gives_its_pod_back_to_nobody() {
    let stage = Stage::set().await;
    stage.pool("p", 1).await;
    stage.sandbox("s", "p").await;
    let pod = pod_of(&stage.until_phase("s", "Ready").await);
    stage.delete::<Sandbox>("s").await;
    stage.until_gone::<Pod>(&pod).await;
    stage.until_pods(|pods| pods.len() == 1).await;
}
