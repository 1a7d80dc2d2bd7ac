//! From creation to removal.

use sandlot_cluster::kubelet::LogOptions;
use serde_json::json;

use crate::Cluster;
use crate::harness::state;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_is_ready_logs_takes_commands_and_goes() {
    let cluster = Cluster::start().await;
    cluster.run("p", "echo hello; exec sleep 1000").await;
    let begun = std::time::Instant::now();
    let pod = cluster.ready("p").await;
    eprintln!("ready after {:?}", begun.elapsed());
    assert_eq!(pod["spec"]["nodeName"], "node");
    assert!(pod["status"]["podIP"].as_str().is_some());
    // Ready means that the program runs, not that it has written yet.
    while cluster.logs("p", LogOptions::default()).await != "hello\n" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(
        cluster.exec("p", "echo $HOSTNAME; exit 3").await,
        (3, "p\n".into())
    );
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_crashes_is_run_again_and_its_last_log_is_kept() {
    let cluster = Cluster::start().await;
    cluster.run("p", "echo run; exit 7").await;
    let pod = cluster
        .until("p", "in back-off", |pod| {
            state(pod)["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 7);
    let previous = LogOptions {
        previous: true,
        ..LogOptions::default()
    };
    assert_eq!(cluster.logs("p", previous).await, "run\n");
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_to_run_once_succeeds_or_fails() {
    let cluster = Cluster::start().await;
    for (name, code, phase) in [("good", 0, "Succeeded"), ("bad", 4, "Failed")] {
        cluster
            .create(json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [
                {"name": "c", "image": "host", "command": ["sh", "-c", format!("echo -n words > /dev/termination-log; exit {code}")]}
            ]}}))
            .await;
        let pod = cluster.phase(name, phase).await;
        assert_eq!(state(&pod)["terminated"]["exitCode"], code);
        assert_eq!(state(&pod)["terminated"]["message"], "words");
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_finds_its_pods_running_and_learns_what_ended() {
    let cluster = Cluster::start().await;
    cluster
        .run("stays", "echo one; while :; do sleep 0.1; done")
        .await;
    cluster
        .create(json!({"metadata": {"name": "ends"}, "spec": {"restartPolicy": "Never", "containers": [
            {"name": "c", "image": "host", "command": ["sh", "-c", "while ! test -e /tmp/end; do sleep 0.05; done; echo bye; exit 9"]}
        ]}}))
        .await;
    let before = cluster.ready("stays").await;
    cluster.ready("ends").await;
    // A second later, when perhaps nobody looks.
    let later = "(sleep 1; touch /tmp/end) >/dev/null 2>&1 &";
    assert_eq!(cluster.exec("ends", later).await.0, 0);
    let cluster = cluster.restart_node().await;
    let pod = cluster.phase("ends", "Failed").await;
    assert_eq!(state(&pod)["terminated"]["exitCode"], 9);
    let after = cluster.ready("stays").await;
    assert_eq!(
        state(&before)["running"]["startedAt"],
        state(&after)["running"]["startedAt"]
    );
    assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(cluster.logs("stays", LogOptions::default()).await, "one\n");
    cluster.delete("stays").await;
    cluster.stop().await;
}
