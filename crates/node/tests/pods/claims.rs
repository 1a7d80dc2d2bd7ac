//! Persistent volume claims keep what pods write until they are deleted.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::PATIENCE;

fn claim(name: &str, class: Option<&str>) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}});
    if let Some(class) = class {
        spec["storageClassName"] = class.into();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn user(name: &str, claim: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"],
            "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
}

async fn until_gone(cluster: &Cluster, path: &str) {
    let begun = Instant::now();
    loop {
        let there = cluster.find(path).await;
        if there.is_null() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{path} did not go: {there:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gets_a_folder_that_outlives_pods_and_goes_with_the_claim() {
    let cluster = Cluster::start().await;
    let of_claim = "namespaces/default/persistentvolumeclaims/disk";
    cluster
        .make("persistentvolumeclaims", claim("disk", None))
        .await;
    assert_eq!(cluster.find(of_claim).await["status"]["phase"], "Pending");
    cluster.create(user("first", "disk")).await;
    cluster.ready("first").await;
    cluster.exec("first", "echo kept > /data/file").await;
    cluster.delete("first").await;

    cluster.create(user("second", "disk")).await;
    cluster.ready("second").await;
    assert_eq!(
        cluster.exec("second", "cat /data/file").await,
        (0, "kept\n".into())
    );
    let bound = cluster.find(of_claim).await;
    assert_eq!(bound["status"]["phase"], "Bound");
    assert_eq!(bound["status"]["capacity"]["storage"], "1Gi");
    assert_eq!(bound["spec"]["storageClassName"], "folder");
    let of_volume = format!(
        "persistentvolumes/{}",
        bound["spec"]["volumeName"].as_str().unwrap()
    );
    let volume = cluster.find(&of_volume).await;
    assert_eq!(volume["status"]["phase"], "Bound");
    let folder = volume["spec"]["hostPath"]["path"].as_str().unwrap();
    assert!(std::path::Path::new(folder).join("file").exists());

    // A claim that is in use waits for its last pod.
    cluster.remove("persistentvolumeclaims", "disk").await;
    let doomed = cluster.find(of_claim).await;
    assert!(doomed["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(cluster.exec("second", "cat /data/file").await.0, 0);
    cluster.delete("second").await;
    until_gone(&cluster, of_claim).await;
    until_gone(&cluster, &of_volume).await;
    assert!(!std::path::Path::new(folder).exists());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_made_beforehand_is_taken_and_left_as_it_is() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "before").unwrap();
    let volume = json!({"metadata": {"name": "mine"}, "spec": {"storageClassName": "manual",
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"},
        "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder.path()}}});
    cluster.make_anywhere("persistentvolumes", volume).await;
    cluster
        .make("persistentvolumeclaims", claim("disk", Some("manual")))
        .await;
    cluster.create(user("p", "disk")).await;
    cluster.ready("p").await;
    assert_eq!(
        cluster.exec("p", "cat /data/file").await,
        (0, "before".into())
    );
    let claim = cluster
        .find("namespaces/default/persistentvolumeclaims/disk")
        .await;
    assert_eq!(claim["spec"]["volumeName"], "mine");
    cluster.delete("p").await;
    cluster.remove("persistentvolumeclaims", "disk").await;
    until_gone(&cluster, "namespaces/default/persistentvolumeclaims/disk").await;
    let volume = cluster.find("persistentvolumes/mine").await;
    assert_eq!(volume["status"]["phase"], "Released");
    assert!(folder.path().join("file").exists());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_claim_is_missing_waits_for_it() {
    let cluster = Cluster::start().await;
    cluster.create(user("p", "disk")).await;
    cluster
        .until_event(
            "p",
            "FailedMount",
            "persistentvolumeclaim \"disk\" not found",
        )
        .await;
    cluster
        .make("persistentvolumeclaims", claim("disk", None))
        .await;
    cluster.ready("p").await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_made_beforehand_does_not_show_what_is_sandlot_s() {
    let cluster = Cluster::start().await;
    let volume = json!({"metadata": {"name": "theirs"}, "spec": {"storageClassName": "manual",
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"},
        "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": cluster.dir}}});
    cluster.make_anywhere("persistentvolumes", volume).await;
    cluster
        .make("persistentvolumeclaims", claim("disk", Some("manual")))
        .await;
    cluster.create(user("p", "disk")).await;
    cluster
        .until_event("p", "FailedMount", "Sandlot's own folder")
        .await;
    cluster.delete("p").await;
    cluster.stop().await;
}
