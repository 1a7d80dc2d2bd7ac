//! Who may come to the node: cordons and taints keep pods out until they are lifted.

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
