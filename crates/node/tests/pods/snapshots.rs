//! A container that is saved is an image, from which others start.

use sandlot_node::SnapshotError;
use serde_json::json;

use crate::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_starts_from_what_another_has_written() {
    let cluster = Cluster::start().await;
    // Two files that are always the same but between the two writes.
    let script = "i=0; while :; do i=$((i+1)); echo $i > /opt/c; mv /opt/c /opt/a; echo $i > /opt/c; mv /opt/c /opt/b; done";
    cluster.run("p", script).await;
    cluster.ready("p").await;
    cluster.exec("p", "mkdir -p /srv/work && echo kept > /srv/work/file && ln -s file /srv/work/link && rm -r /home").await;
    cluster
        .until_shows("p", "test -s /opt/b && echo there", "there")
        .await;
    let saved = cluster
        .node
        .snapshot("default", "p", "c", "saved/one:1")
        .await
        .unwrap();
    assert!(saved.image.ends_with("saved/one:1"), "{}", saved.image);
    let before = cluster.exec("p", "cat /opt/b").await.1;
    cluster
        .until_shows(
            "p",
            &format!("test $(cat /opt/b) -gt {} && echo on", before.trim()),
            "on",
        )
        .await;

    let look = "cat /srv/work/link; test -e /home && echo home; a=$(cat /opt/a); b=$(cat /opt/b); test $((a-b)) -le 1 && echo one-moment";
    cluster
        .create(json!({"metadata": {"name": "q"}, "spec": {"restartPolicy": "Never", "containers": [
            {"name": "c", "image": "saved/one:1", "imagePullPolicy": "Never", "command": ["sh", "-c", look]}]}}))
        .await;
    cluster.phase("q", "Succeeded").await;
    assert_eq!(
        cluster.logs("q", Default::default()).await,
        "kept\none-moment\n"
    );
    for name in ["p", "q"] {
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_cannot_be_saved() {
    let cluster = Cluster::start().await;
    let missing = cluster
        .node
        .snapshot("default", "nobody", "c", "saved/one:1")
        .await;
    assert!(matches!(missing, Err(SnapshotError::NotHere { .. })));
    let unnamed = cluster
        .node
        .snapshot("default", "nobody", "c", "No Name")
        .await;
    assert!(matches!(unnamed, Err(SnapshotError::Name(_))));
    cluster.stop().await;
}
