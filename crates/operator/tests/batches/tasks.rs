//! Tasks of batches.

use sandlot_api::opensandbox::{BatchSandbox, BatchSandboxStatus, names};
use serde_json::{Value, json};

use crate::stage::*;

fn process(command: &[&str]) -> Value {
    json!({ "spec": { "process": { "command": command } } })
}

fn counts(status: &BatchSandboxStatus) -> [i32; 5] {
    [
        status.task_pending,
        status.task_running,
        status.task_succeed,
        status.task_failed,
        status.task_unknown,
    ]
}

#[tokio::test]
async fn each_sandbox_runs_the_task_of_its_own_index() {
    let stage = Stage::set().await;
    stage.pool("p", 3, 20).await;
    stage.until_available("p", 3).await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 3, "poolRef": "p", "template": template(),
            "taskTemplate": process(&["echo", "Default task"]),
            "shardTaskPatches": [process(&["echo", "one"]), process(&["fail"])] }),
        )
        .await;
    let batch = stage
        .until::<BatchSandbox>("b", |batch| counts(&status(batch)) == [0, 0, 2, 1, 0])
        .await;
    let mut started = stage.executors.started();
    started.sort();
    let wanted = [
        ("b-0", "echo one"),
        ("b-1", "fail"),
        ("b-2", "echo Default task"),
    ];
    assert_eq!(
        started,
        wanted.map(|(task, line)| (task.to_owned(), line.to_owned()))
    );
    for (index, pod) in listed(&batch, names::ALLOCATED).iter().enumerate() {
        let tasks = stage.executors.tasks(pod);
        assert_eq!(tasks[0].name, format!("b-{index}"), "task i is in pod i");
    }
    assert!(
        batch
            .metadata
            .finalizers
            .unwrap()
            .contains(&names::TASK_CLEANUP.to_owned())
    );
}

#[tokio::test]
async fn a_deleted_batch_stops_its_tasks_before_its_pods_go_back() {
    let stage = Stage::set().await;
    let pool = json!({ "template": template(), "recycleStrategy": { "type": "Noop" },
        "capacitySpec": { "bufferMin": 1, "bufferMax": 1, "poolMin": 1, "poolMax": 1 } });
    stage
        .make::<sandlot_api::opensandbox::Pool>("p", pool)
        .await;
    stage.until_available("p", 1).await;
    let spec = json!({ "replicas": 1, "poolRef": "p", "taskTemplate": process(&["hang"]) });
    stage.make::<BatchSandbox>("b", spec.clone()).await;
    let batch = stage
        .until::<BatchSandbox>("b", |batch| status(batch).task_running == 1)
        .await;
    let pod = listed(&batch, names::ALLOCATED)[0].clone();
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
    assert!(
        stage.executors.tasks(&pod).is_empty(),
        "nothing is left for the next tenant"
    );
    stage.make::<BatchSandbox>("next", spec).await;
    stage
        .until::<BatchSandbox>("next", |batch| status(batch).task_running == 1)
        .await;
    assert_eq!(stage.executors.tasks(&pod)[0].name, "next-0");
}

#[tokio::test]
async fn sandboxes_whose_tasks_are_done_are_given_back_when_asked_for() {
    let stage = Stage::set().await;
    stage.pool("p", 2, 20).await;
    stage.until_available("p", 2).await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 2, "poolRef": "p",
            "taskResourcePolicyWhenCompleted": "Release",
            "taskTemplate": process(&["hang"]), "shardTaskPatches": [process(&["echo", "done"])] }),
        )
        .await;
    let batch = stage
        .until::<BatchSandbox>("b", |batch| {
            counts(&status(batch)) == [0, 1, 1, 0, 0] && listed(batch, names::RELEASED).len() == 1
        })
        .await;
    let given = listed(&batch, names::ALLOCATED);
    assert_eq!(listed(&batch, names::RELEASE), given[..1]);
    assert_eq!(
        endpoints(&batch)[0],
        "",
        "the address of a sandbox that is gone is not published"
    );
    stage.executors.finish(&given[1]);
    let batch = stage
        .until::<BatchSandbox>("b", |batch| listed(batch, names::RELEASED).len() == 2)
        .await;
    assert_eq!(status(&batch).task_succeed, 2);
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
}

#[tokio::test]
async fn a_batch_of_its_own_pods_releases_them_too() {
    let stage = Stage::set().await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 1, "template": template(),
            "taskResourcePolicyWhenCompleted": "Release", "taskTemplate": process(&["echo"]) }),
        )
        .await;
    let batch = stage
        .until::<BatchSandbox>("b", |batch| {
            status(batch).task_succeed == 1 && status(batch).replicas == 0
        })
        .await;
    assert_eq!(listed(&batch, names::RELEASE), ["b-0"]);
    stage.until_pods(<[_]>::is_empty).await;
}

#[tokio::test]
async fn a_new_operator_finds_running_tasks_and_starts_none_twice() {
    let mut stage = Stage::set().await;
    stage.pool("p", 2, 20).await;
    stage.until_available("p", 2).await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 2, "poolRef": "p", "taskTemplate": process(&["hang"]) }),
        )
        .await;
    let batch = stage
        .until::<BatchSandbox>("b", |batch| status(batch).task_running == 2)
        .await;
    stage.kill_operator().await;
    let given = listed(&batch, names::ALLOCATED);
    stage.executors.finish(&given[0]);
    stage.start_operator();
    stage
        .until::<BatchSandbox>("b", |batch| counts(&status(batch)) == [0, 1, 1, 0, 0])
        .await;
    assert_eq!(stage.executors.started().len(), 2);
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
}

#[tokio::test]
async fn a_task_that_makes_no_sense_is_unknown_and_said() {
    let stage = Stage::set().await;
    stage.pool("p", 1, 20).await;
    stage.until_available("p", 1).await;
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 1, "poolRef": "p", "taskTemplate": { "spec": {} } }),
        )
        .await;
    let batch = stage
        .until::<BatchSandbox>("b", |batch| status(batch).task_unknown == 1)
        .await;
    assert!(
        condition(&batch).2.contains("spec.process.command"),
        "{:?}",
        condition(&batch)
    );
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
}

#[tokio::test]
async fn a_pod_without_our_executor_is_called_in_the_open_only_when_asked_to() {
    let key = sandlot_access::PrivateKey::generate().unwrap();
    let stage =
        Stage::with(|settings| settings.agent.proof = sandlot_operator::Proof::Key(key)).await;
    let bare = json!({ "spec": { "containers": [
        { "name": "sandbox-container", "image": "ubuntu:latest" }] } });
    stage
        .make::<BatchSandbox>(
            "b",
            json!({ "replicas": 1, "template": bare, "taskTemplate": process(&["echo"]) }),
        )
        .await;
    let refused = stage
        .until::<BatchSandbox>("b", |batch| status(batch).task_unknown == 1)
        .await;
    let (_, _, words) = condition(&refused);
    assert!(
        words.contains("no container named task-executor") && words.contains(names::TASK_EXECUTOR),
        "{words}"
    );
    assert!(stage.executors.started().is_empty());
    stage
        .change::<BatchSandbox>(
            "b",
            json!({ "metadata": { "annotations": { names::TASK_EXECUTOR: "plain" } } }),
        )
        .await;
    stage
        .until::<BatchSandbox>("b", |batch| counts(&status(batch)) == [0, 0, 1, 0, 0])
        .await;
    stage.delete::<BatchSandbox>("b").await;
    stage.until_gone::<BatchSandbox>("b").await;
}
