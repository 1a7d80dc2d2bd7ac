//! What goes wrong shows where its user looks, and nothing else suffers.

use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::{condition, state};

fn pod(name: &str, container: Value) -> Value {
    let mut whole = json!({"name": "c", "image": "host", "command": ["sleep", "1000"]});
    if let (Some(whole), Some(more)) = (whole.as_object_mut(), container.as_object()) {
        whole.extend(more.clone());
    }
    json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [whole]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_own_reason() {
    let cluster = Cluster::start().await;
    cluster.create(pod("fine", json!({}))).await;
    let cases = [
        (
            "no-image",
            json!({"image": "nowhere/nothing:1"}),
            "waiting",
            "ErrImagePull",
        ),
        (
            "no-command",
            json!({"command": ["/no/such/thing"]}),
            "terminated",
            "StartError",
        ),
        (
            "no-config",
            json!({"envFrom": [{"configMapRef": {"name": "absent"}}]}),
            "waiting",
            "CreateContainerConfigError",
        ),
        (
            "not-root",
            json!({"securityContext": {"runAsNonRoot": true}}),
            "waiting",
            "CreateContainerConfigError",
        ),
        (
            "privileged",
            json!({"securityContext": {"privileged": true}}),
            "waiting",
            "CreateContainerConfigError",
        ),
        (
            "file-as-cwd",
            json!({"workingDir": "/etc/passwd"}),
            "terminated",
            "StartError",
        ),
    ];
    for (name, container, _, _) in &cases {
        cluster.create(pod(name, container.clone())).await;
    }
    for (name, _, kind, reason) in &cases {
        cluster
            .until(name, reason, |pod| state(pod)[kind]["reason"] == *reason)
            .await;
        cluster.delete(name).await;
    }
    cluster.ready("fine").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_takes_too_much_memory_is_killed_for_it() {
    let cluster = Cluster::start().await;
    let greedy = json!({"command": ["python3", "-c", "x = bytearray(500 << 20)"],
        "resources": {"limits": {"memory": "64Mi"}}});
    cluster.create(pod("greedy", greedy)).await;
    let pod = cluster.phase("greedy", "Failed").await;
    assert_eq!(state(&pod)["terminated"]["reason"], "OOMKilled");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_fit_waits_and_says_why() {
    let cluster = Cluster::start().await;
    cluster
        .create(pod(
            "huge",
            json!({"resources": {"requests": {"cpu": "9999"}}}),
        ))
        .await;
    let pod = cluster
        .until("huge", "unschedulable", |pod| {
            condition(pod, "PodScheduled") == "False"
        })
        .await;
    assert!(
        pod["status"]["conditions"][0]["message"]
            .as_str()
            .unwrap()
            .contains("Insufficient cpu")
    );
    cluster
        .pods()
        .delete("huge", &Default::default())
        .await
        .unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_asks_for_a_runtime_which_is_not_here_is_not_run_without_it() {
    let cluster = Cluster::start().await;
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    for (name, handler) in [("safe", "runsc"), ("usual", "sandlot")] {
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": name}, "handler": handler});
        cluster.post(classes, class).await;
        let mut asking = pod(name, json!({}));
        asking["spec"]["runtimeClassName"] = json!(name);
        cluster.create(asking).await;
    }
    cluster.ready("usual").await;
    let why = cluster.event("safe", "FailedCreatePodSandBox").await;
    assert!(why.contains("runsc"), "{why}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide_when_a_container_is_ready_and_when_it_is_run_again() {
    let cluster = Cluster::start().await;
    let probed = json!({
        "command": ["sh", "-c", "sleep 0.5; touch /tmp/ok; sleep 1000"],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1},
    });
    cluster.create(pod("slow", probed)).await;
    cluster
        .until("slow", "running", |pod| state(pod)["running"].is_object())
        .await;
    cluster.ready("slow").await;
    let mut dying = pod(
        "dying",
        json!({
            "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1},
        }),
    );
    dying["spec"]["restartPolicy"] = "Always".into();
    cluster.create(dying).await;
    cluster
        .until("dying", "restarted", |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"].as_u64() > Some(0)
        })
        .await;
    cluster.stop().await;
}
