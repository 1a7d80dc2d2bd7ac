//! Who may come to the node and who has to go: cordons and taints.

use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::condition;

async fn change_node(cluster: &Cluster, spec: Value) {
    let patch = serde_json::to_vec(&json!({"spec": spec})).unwrap();
    let request = http::Request::patch("/api/v1/nodes/node")
        .header("content-type", "application/merge-patch+json")
        .body(patch)
        .unwrap();
    cluster.client.request::<Value>(request).await.unwrap();
}

/// Waits until a pod is told that it cannot come, and returns why.
async fn refused(cluster: &Cluster, name: &str) -> String {
    let pod = cluster
        .until(name, "refused", |pod| {
            condition(pod, "PodScheduled") == "False"
        })
        .await;
    pod["status"]["conditions"][0]["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Creates pods until one is refused: the node learns of its own change a moment later.
async fn first_refused(cluster: &Cluster, kind: &str) -> (String, String) {
    for number in 0..50 {
        let name = format!("{kind}-{number}");
        cluster.run(&name, "exec sleep 1000").await;
        let pod = cluster
            .until(&name, "judged", |pod| {
                pod["spec"]["nodeName"].is_string() || condition(pod, "PodScheduled") == "False"
            })
            .await;
        if pod["spec"]["nodeName"].is_null() {
            let why = refused(cluster, &name).await;
            return (name, why);
        }
    }
    panic!("nobody was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_or_tainted_node_takes_no_pods_until_that_is_over() {
    let cluster = Cluster::start().await;
    change_node(&cluster, json!({"unschedulable": true})).await;
    let (name, why) = first_refused(&cluster, "cordoned").await;
    assert!(why.contains("node(s) were unschedulable"), "{why}");
    change_node(&cluster, json!({"unschedulable": null})).await;
    cluster.ready(&name).await;

    let taint = json!([{"key": "for", "value": "robots", "effect": "NoSchedule"}]);
    change_node(&cluster, json!({"taints": taint})).await;
    let (name, why) = first_refused(&cluster, "tainted").await;
    assert!(why.contains("untolerated taint {for: robots}"), "{why}");
    cluster
        .create(json!({"metadata": {"name": "robot"}, "spec": {
            "tolerations": [{"key": "for", "operator": "Exists"}], "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"]}]}}))
        .await;
    cluster.ready("robot").await;
    change_node(&cluster, json!({"taints": null})).await;
    cluster.ready(&name).await;
    cluster.stop().await;
}

/// Gives the node taints.
async fn taint(cluster: &Cluster, effects: &[&str]) {
    let taints: Vec<Value> = effects
        .iter()
        .map(|effect| json!({"key": "broken", "effect": effect}))
        .collect();
    change_node(cluster, json!({"taints": taints})).await;
}

fn tolerant(name: &str, tolerations: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0,
        "tolerations": tolerations,
        "containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"]}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_sends_away_who_does_not_tolerate_it_or_only_for_a_while() {
    let cluster = Cluster::start().await;
    let for_ever = json!([{"key": "broken", "operator": "Exists"}]);
    let a_while = json!([{"key": "broken", "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 3}]);
    for (name, tolerations) in [
        ("stranger", json!([])),
        ("guest", a_while),
        ("resident", for_ever),
    ] {
        cluster.create(tolerant(name, tolerations)).await;
        cluster.ready(name).await;
    }
    // One that only keeps pods out sends nobody away.
    taint(&cluster, &["NoSchedule"]).await;
    let (name, _) = first_refused(&cluster, "late").await;
    cluster.ready("stranger").await;

    let begun = std::time::Instant::now();
    taint(&cluster, &["NoExecute"]).await;
    cluster.until("stranger", "gone", Value::is_null).await;
    cluster
        .until_event("stranger", "TaintManagerEviction", "Marking for deletion")
        .await;
    cluster.until("guest", "gone", Value::is_null).await;
    let stayed = begun.elapsed().as_secs_f64();
    assert!(stayed >= 2.9, "the guest was sent away after {stayed} s");
    cluster.ready("resident").await;

    // One that was told why says so to whoever looks after it.
    taint(&cluster, &[]).await;
    cluster.ready(&name).await;
    let mut slow = tolerant("slow", json!([]));
    slow["spec"]["terminationGracePeriodSeconds"] = json!(30);
    slow["spec"]["containers"][0]["command"] = json!([
        "sh",
        "-c",
        "trap 'sleep 2; exit' TERM; while :; do sleep 0.1; done"
    ]);
    cluster.create(slow).await;
    cluster.ready("slow").await;
    taint(&cluster, &["NoExecute"]).await;
    cluster
        .until("slow", "told", |pod| {
            condition(pod, "DisruptionTarget") == "True" || pod.is_null()
        })
        .await;
    cluster.until("slow", "gone", Value::is_null).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_comes_even_where_it_would_rather_not_be() {
    let cluster = Cluster::start().await;
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let fast = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]});
    let beside = json!({"topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": "nobody"}}});
    let apart = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {}});
    let mut pod = tolerant("p", json!([]));
    pod["spec"]["affinity"] = json!({
        "nodeAffinity": {preferred: [{"weight": 100, "preference": fast}]},
        "podAffinity": {preferred: [{"weight": 1, "podAffinityTerm": beside}]},
        "podAntiAffinity": {preferred: [{"weight": 50, "podAffinityTerm": apart}]}});
    cluster.run("neighbour", "exec sleep 1000").await;
    cluster.ready("neighbour").await;
    change_node(
        &cluster,
        json!({"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}),
    )
    .await;
    cluster.create(pod).await;
    cluster.ready("p").await;
    cluster.stop().await;
}
