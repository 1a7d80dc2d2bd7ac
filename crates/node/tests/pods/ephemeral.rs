//! Containers put into a running pod, to look around in it.

use sandlot_cluster::kubelet::{ContainerRef, LogOptions};
use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::container;

/// Says what it sees: the pod's name, the commands that run, and the name that the first
/// process finds in its own files.
const LOOK: &str =
    "hostname; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; cat /proc/1/root/etc/hostname";

/// Puts a container into the pod `p` as `kubectl debug` does.
async fn put_in(cluster: &Cluster, container: Value) {
    let patch = json!({"spec": {"ephemeralContainers": [container]}}).to_string();
    let request = http::Request::patch("/api/v1/namespaces/default/pods/p/ephemeralcontainers")
        .header("content-type", "application/strategic-merge-patch+json")
        .body(patch.into_bytes());
    let put: kube::Result<Value> = cluster.client.request(request.unwrap()).await;
    put.unwrap();
}

fn debugger(name: &str, target: Option<&str>, script: &str) -> Value {
    json!({"name": name, "image": "host", "targetContainerName": target,
        "command": ["sh", "-c", script]})
}

/// Waits until the debugger of this name is in a state, and returns that.
async fn state(cluster: &Cluster, name: &str, what: &str) -> Value {
    let find = |pod: &Value| {
        let all = pod["status"]["ephemeralContainerStatuses"].as_array();
        let mut all = all.into_iter().flatten();
        let found = all.find(|one| one["name"] == name);
        found.map_or(Value::Null, |one| one["state"][what].clone())
    };
    find(&cluster.until("p", what, |pod| !find(pod).is_null()).await)
}

fn of(name: &str) -> ContainerRef {
    let mut of = container("p");
    of.container = name.to_owned();
    of
}

async fn said(cluster: &Cluster, name: &str) -> String {
    cluster.logs_of(of(name), LogOptions::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_put_into_a_pod_sees_the_processes_it_was_aimed_at() {
    looks_around(Cluster::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oci_runtime_puts_containers_into_pods_too() {
    for cluster in crate::runtimes::clusters_on_this_kernel().await {
        looks_around(cluster).await;
    }
}

async fn looks_around(cluster: Cluster) {
    cluster.run("p", "exec sleep 4242").await;
    let before = cluster.ready("p").await;
    put_in(&cluster, debugger("aimed", Some("c"), LOOK)).await;
    put_in(&cluster, debugger("apart", None, LOOK)).await;
    for name in ["aimed", "apart"] {
        let ended = state(&cluster, name, "terminated").await;
        assert_eq!(ended["reason"], "Completed", "{ended}");
    }
    let (aimed, apart) = (said(&cluster, "aimed").await, said(&cluster, "apart").await);
    assert!(
        aimed.starts_with("p\n") && aimed.ends_with("p\n"),
        "{aimed}"
    );
    assert!(aimed.contains("sleep 4242"), "{aimed}");
    assert!(!apart.contains("sleep 4242"), "{apart}");
    let started = cluster.events("p", "Started").await;
    assert!(
        started.contains(&"Started container aimed".to_owned()),
        "{started:?}"
    );
    let after = cluster.ready("p").await;
    assert_eq!(
        after["status"]["containerStatuses"], before["status"]["containerStatuses"],
        "the pod's own container noticed"
    );
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_put_into_a_pod_is_found_again_and_goes_with_the_pod() {
    let cluster = Cluster::start().await;
    cluster.run("p", "exec sleep 1000").await;
    cluster.ready("p").await;
    put_in(&cluster, debugger("over", Some("c"), "echo once; exit 3")).await;
    put_in(&cluster, debugger("stays", Some("c"), "exec sleep 1000")).await;
    let over = state(&cluster, "over", "terminated").await;
    let stays = state(&cluster, "stays", "running").await;
    let cluster = cluster.restart_node().await;
    // Only who was adopted takes commands.
    let begun = std::time::Instant::now();
    let shown = loop {
        match cluster
            .exec_in(of("stays"), "cat /proc/1/cmdline | tr '\\0' ' '")
            .await
        {
            Ok(shown) => break shown,
            Err(error) => assert!(begun.elapsed() < crate::harness::PATIENCE, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(shown, (0, "sleep 1000 ".to_owned()));
    assert_eq!(state(&cluster, "stays", "running").await, stays);
    assert_eq!(state(&cluster, "over", "terminated").await, over);
    assert_eq!(over["exitCode"], 3);
    assert_eq!(said(&cluster, "over").await, "once\n", "it was run again");
    cluster.delete("p").await;
    let left = std::fs::read_dir(cluster.dir.join("logs")).unwrap().count();
    assert_eq!(left, 0, "logs are left");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_put_into_a_pod_of_shared_processes_leaves_none_behind() {
    let cluster = Cluster::start().await;
    if cluster.lacks("SandlotProcessLimits").await {
        return eprintln!("skipped: without control groups nobody knows whose a process is");
    }
    cluster
        .create(
            json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 1,
            "shareProcessNamespace": true, "containers": [{"name": "c", "image": "host",
                "command": ["sh", "-c", "exec sleep 4242"]}]}}),
        )
        .await;
    cluster.ready("p").await;
    let script = format!("sleep 777 & {LOOK}");
    put_in(&cluster, debugger("d", None, &script)).await;
    state(&cluster, "d", "terminated").await;
    let seen = said(&cluster, "d").await;
    assert!(seen.contains("sleep 4242"), "{seen}");
    cluster
        .until_shows(
            "p",
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 777'",
            "0",
        )
        .await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_said_and_the_pod_goes_on() {
    let cluster = Cluster::start().await;
    cluster.run("p", "exec sleep 1000").await;
    cluster.ready("p").await;
    let absent = json!({"name": "d", "image": "127.0.0.1:1/absent"});
    put_in(&cluster, absent).await;
    let waiting = state(&cluster, "d", "waiting").await;
    let reason = waiting["reason"].as_str().unwrap_or_default();
    assert!(
        ["ContainerCreating", "ErrImagePull", "ImagePullBackOff"].contains(&reason),
        "{waiting}"
    );
    cluster
        .until_event("p", "Failed", "127.0.0.1:1/absent")
        .await;
    cluster.ready("p").await;
    cluster.delete("p").await;
    cluster.stop().await;
}
