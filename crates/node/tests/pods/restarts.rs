//! The node stops and starts; its pods' lives make sense all the same.

use std::time::Instant;

use sandlot_cluster::kubelet::LogOptions;
use sandlot_node::StopMode;
use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::state;

fn pod(name: &str, policy: &str, script: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"restartPolicy": policy,
        "terminationGracePeriodSeconds": 20,
        "containers": [{"name": "c", "image": "host", "command": ["sh", "-c", script]}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_given_their_grace_when_the_node_stops_and_run_again_when_it_starts() {
    let cluster = Cluster::start().await;
    let slow = "echo begun; trap 'sleep 2; echo saved; exit 7' TERM; while :; do sleep 0.05; done";
    cluster.create(pod("again", "Always", slow)).await;
    cluster.create(pod("once", "Never", slow)).await;
    cluster.create(pod("done", "Never", "echo done")).await;
    let before = cluster.phase("done", "Succeeded").await;
    for name in ["again", "once"] {
        cluster.ready(name).await;
    }
    // Ready means that the shell runs, not that it has set its trap.
    for name in ["again", "once"] {
        while cluster.logs(name, LogOptions::default()).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let cluster = cluster.restart_after(StopMode::StopPods).await;

    let again = cluster.ready("again").await;
    let status = &again["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 7);
    let previous = LogOptions {
        previous: true,
        ..LogOptions::default()
    };
    assert_eq!(cluster.logs("again", previous).await, "begun\nsaved\n");

    let once = cluster.phase("once", "Failed").await;
    assert_eq!(state(&once)["terminated"]["exitCode"], 7);
    let after = cluster.phase("done", "Succeeded").await;
    assert_eq!(state(&before), state(&after), "what was over was run again");
    for name in ["again", "once", "done"] {
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_those_that_would_not_hear_it() {
    let cluster = Cluster::start().await;
    cluster
        .create(pod("deaf", "Always", "exec sleep 1000"))
        .await;
    cluster.ready("deaf").await;
    let begun = Instant::now();
    cluster.node.stop(StopMode::StopPods).await;
    let took = begun.elapsed();
    assert!(
        took.as_secs() < 15,
        "{took:?}, though the pod has no ear for signals"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_hurried_kills() {
    let cluster = Cluster::start().await;
    cluster
        .create(pod(
            "busy",
            "Always",
            "trap 'echo no' TERM; echo set; while :; do sleep 0.05; done",
        ))
        .await;
    while cluster.ready("busy").await.is_null()
        || cluster.logs("busy", LogOptions::default()).await.is_empty()
    {}
    let begun = Instant::now();
    let node = cluster.node.clone();
    let stopping = tokio::spawn(async move { node.stop(StopMode::StopPods).await });
    while !cluster
        .logs("busy", LogOptions::default())
        .await
        .contains("no")
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    cluster.node.hurry().await;
    stopping.await.unwrap();
    let took = begun.elapsed();
    assert!(took.as_secs() < 18, "{took:?} of twenty seconds' grace");
    cluster.stop().await;
}
