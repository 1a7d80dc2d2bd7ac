//! What goes wrong shows where its user looks, and nothing else suffers.

use sandlot_cluster::kubelet::{Kubelet as _, LogOptions};
use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::{condition, container, state};

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
    for (name, handler) in [("safe", "kata-runtime"), ("usual", "sandlot")] {
        let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": name}, "handler": handler});
        cluster.post(classes, class).await;
        let mut asking = pod(name, json!({}));
        asking["spec"]["runtimeClassName"] = json!(name);
        cluster.create(asking).await;
    }
    cluster.ready("usual").await;
    let why = cluster.event("safe", "FailedCreatePodSandBox").await;
    assert!(why.contains("kata-runtime"), "{why}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_cannot_be_made_is_told() {
    let cluster = Cluster::start().await;
    for (name, target) in [
        ("folder-over-file", "/etc/passwd"),
        ("below-a-file", "/etc/passwd/x"),
    ] {
        let mut pod = pod(
            name,
            json!({"volumeMounts": [{"name": "v", "mountPath": target}]}),
        );
        pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        cluster.create(pod).await;
        let pod = cluster
            .until(name, "refused", |pod| {
                state(pod)["waiting"]["reason"] == "CreateContainerError"
            })
            .await;
        let message = state(&pod)["waiting"]["message"].as_str().unwrap();
        assert!(message.contains(target), "{message}");
        cluster.until_event(name, "Failed", target).await;
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

/// On a disk of its own, which a pod fills.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_what_runs_goes_on() {
    let disk = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .status();
        done.is_ok_and(|status| status.success())
    };
    let at = disk.path().display().to_string();
    if !mount(&[
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=64m",
        "sandlot-test",
        &at,
    ]) {
        return println!("skipped: a small disk can only be made as root");
    }
    let cluster = Cluster::with_in(disk.path(), |_| {}).await;
    cluster.create(pod("neighbour", json!({}))).await;
    cluster.ready("neighbour").await;
    let fill = json!({"command": ["sh", "-c", "head -c 200000000 /dev/zero > /var/tmp/big; echo $?; exec sleep 1000"]});
    cluster.create(pod("greedy", fill)).await;
    cluster.ready("greedy").await;
    cluster.until_shows("greedy", "stat -c '%s' /var/tmp/big >/dev/null && df --output=avail /var/tmp | tail -n1 | tr -d ' '", "0").await;

    cluster.create(pod("late", json!({}))).await;
    let full = |message: &str| message.contains("No space left on device");
    let late = cluster
        .until("late", "in want of space", |pod| {
            state(pod)["waiting"]["message"].as_str().is_some_and(full)
        })
        .await;
    assert_eq!(late["status"]["phase"], "Pending");
    assert_eq!(
        cluster.exec("neighbour", "echo fine").await,
        (0, "fine\n".into())
    );

    cluster.delete("greedy").await;
    cluster.ready("late").await;
    for name in ["late", "neighbour"] {
        cluster.delete(name).await;
    }
    cluster.stop().await;
    assert!(mount(&["umount", &at]), "something still uses the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_image_is_an_error_first_and_a_back_off_then() {
    let cluster = Cluster::start().await;
    cluster
        .create(pod("p", json!({"image": "127.0.0.1:1/nothing:1"})))
        .await;
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        cluster
            .until("p", reason, |pod| state(pod)["waiting"]["reason"] == reason)
            .await;
    }
    cluster
        .until_event("p", "Failed", "Error: ErrImagePull")
        .await;
    cluster
        .until_event("p", "BackOff", "Back-off pulling image")
        .await;
    let asked = cluster.node.logs(container("p"), LogOptions::default());
    let refused = asked.await.err().map(|error| error.to_string());
    assert_eq!(
        refused.as_deref(),
        Some(r#"container "c" in pod "p" is waiting to start: trying and failing to pull image"#)
    );
    cluster.delete("p").await;
    cluster.stop().await;
}
