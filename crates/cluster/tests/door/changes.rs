//! The real `kubectl` creating, showing, patching and applying.

use std::process::Output;

use crate::kubectl::Reachable;

/// All that kubectl printed.
fn printed(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Runs kubectl, which must succeed and print this, however wide its columns.
async fn does(server: &Reachable, words: &str, expected: &str) {
    let output = server.kubectl(words).await;
    let said = printed(&output);
    assert!(output.status.success(), "kubectl {words}: {said}");
    let shown = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains(expected), "kubectl {words}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_creates_in_protobuf_and_shows_in_tables() {
    let server = Reachable::start().await;
    does(
        &server,
        "create configmap c --from-literal=a=1 --from-literal=b=2",
        "c created",
    )
    .await;
    does(
        &server,
        "create role r --verb=get --resource=pods",
        "r created",
    )
    .await;
    does(
        &server,
        "create service clusterip s --tcp=80:8080",
        "s created",
    )
    .await;
    does(&server, "get configmap c", "NAME DATA AGE c 2 ").await;
    does(
        &server,
        "get service s",
        "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE s ClusterIP",
    )
    .await;
    does(&server, "get service s -o wide", "SELECTOR s ClusterIP").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_patches_in_three_ways_and_applies_with_conflicts() {
    let server = Reachable::start().await;
    does(&server, "create configmap c --from-literal=a=1", "created").await;
    does(
        &server,
        r#"patch configmap c --type=merge -p {"data":{"b":"2"}}"#,
        "patched",
    )
    .await;
    does(
        &server,
        r#"patch configmap c -p {"data":{"a":null}}"#,
        "patched",
    )
    .await;
    let operations =
        r#"[{"op":"test","path":"/data/b","value":"2"},{"op":"add","path":"/data/c","value":"3"}]"#;
    does(
        &server,
        &format!("patch configmap c --type=json -p {operations}"),
        "patched",
    )
    .await;
    does(
        &server,
        "get configmap c -o jsonpath={.data}",
        r#"{"b":"2","c":"3"}"#,
    )
    .await;

    let file = server.folder.path().join("c.json");
    let config =
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"b":"9"}}"#;
    std::fs::write(&file, config).unwrap();
    let apply = format!(
        "apply --server-side --validate=false --field-manager=me -f {}",
        file.display()
    );
    let refused = server.kubectl(&apply).await;
    let why = printed(&refused);
    assert!(!refused.status.success());
    assert!(
        why.contains("conflict with \"kubectl-patch\" using v1: .data.b"),
        "{why}"
    );
    does(
        &server,
        &format!("{apply} --force-conflicts"),
        "serverside-applied",
    )
    .await;
    does(&server, "get configmap c -o jsonpath={.data.b}", "9").await;
    server.stop().await;
}
