//! How pods and containers end, and what is told of it.

use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::state;

fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "host", "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
}

fn pod(name: &str, spec: Value) -> Value {
    let mut whole = json!({"terminationGracePeriodSeconds": 30,
        "volumes": [{"name": "v", "hostPath": {"path": "/nowhere"}}]});
    if let (Some(whole), Some(more)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(more.clone());
    }
    json!({"metadata": {"name": name}, "spec": whole})
}

/// A folder of the machine that tells in which order things happened.
fn diary() -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let volume = json!([{"name": "v", "hostPath": {"path": folder.path()}}]);
    (folder, volume)
}

fn read(folder: &tempfile::TempDir) -> Vec<String> {
    let text = std::fs::read_to_string(folder.path().join("diary")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_and_sidecars_begin_in_order_and_end_in_reverse() {
    let cluster = Cluster::start().await;
    let (folder, volumes) = diary();
    let stays = |name: &str| {
        let script = format!(
            "trap 'echo {name} ends >> /v/diary; exit 0' TERM; echo {name} begins >> /v/diary; while :; do sleep 0.05; done"
        );
        let mut container = sh(name, &script);
        container["restartPolicy"] = "Always".into();
        container["startupProbe"] = json!({"periodSeconds": 1,
            "exec": {"command": ["grep", "-q", format!("{name} begins"), "/v/diary"]}});
        container
    };
    let main = "trap 'echo main ends >> /v/diary; exit 0' TERM; echo main begins >> /v/diary; while :; do sleep 0.05; done";
    let spec = json!({"volumes": volumes,
        "initContainers": [sh("init", "echo init >> /v/diary"), stays("s1"), stays("s2")],
        "containers": [sh("c", main)]});
    cluster.create(pod("p", spec)).await;
    cluster.ready("p").await;
    cluster
        .until_shows("p", "tail -n1 /v/diary", "main begins")
        .await;
    cluster.delete("p").await;
    let order = [
        "init",
        "s1 begins",
        "s2 begins",
        "main begins",
        "main ends",
        "s2 ends",
        "s1 ends",
    ];
    assert_eq!(read(&folder), order);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_run_after_the_start_and_before_the_end() {
    let cluster = Cluster::start().await;
    let (folder, volumes) = diary();
    let mut container = sh(
        "c",
        "trap 'echo signal >> /v/diary; exit 0' TERM; while :; do sleep 0.05; done",
    );
    container["lifecycle"] = json!({
        "postStart": {"exec": {"command": ["sh", "-c", "echo started >> /v/diary"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo stopping >> /v/diary"]}}});
    cluster
        .create(pod(
            "p",
            json!({"volumes": volumes, "containers": [container]}),
        ))
        .await;
    cluster.ready("p").await;
    cluster.delete("p").await;
    assert_eq!(read(&folder), ["started", "stopping", "signal"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_is_told_and_a_container_that_was_not_greeted_ends() {
    let cluster = Cluster::start().await;
    let (_folder, volumes) = diary();
    let mut container = sh("c", "sleep 1000");
    container["lifecycle"] = json!({"postStart": {"exec": {"command": ["false"]}}});
    let spec = json!({"volumes": volumes, "restartPolicy": "Never", "containers": [container]});
    cluster.create(pod("p", spec)).await;
    cluster
        .until_event("p", "FailedPostStartHook", "command exited with 1")
        .await;
    let pod = cluster.phase("p", "Failed").await;
    assert_eq!(state(&pod)["terminated"]["exitCode"], 137);
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_hear_is_killed_when_its_grace_is_over() {
    let cluster = Cluster::start().await;
    let (_folder, volumes) = diary();
    let mut spec = json!({"volumes": volumes, "containers": [sh("c", "trap '' TERM; touch /v/set; while :; do sleep 0.05; done")]});
    spec["terminationGracePeriodSeconds"] = 1.into();
    cluster.create(pod("p", spec)).await;
    cluster.ready("p").await;
    cluster
        .until_shows("p", "test -e /v/set && echo set", "set")
        .await;
    let begun = std::time::Instant::now();
    cluster.delete("p").await;
    let took = begun.elapsed().as_secs_f64();
    assert!((0.9..25.0).contains(&took), "{took} s");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_past_its_deadline_fails_and_says_so() {
    let cluster = Cluster::start().await;
    let (_folder, volumes) = diary();
    let spec = json!({"volumes": volumes, "activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 0,
        "containers": [sh("c", "sleep 1000")]});
    cluster.create(pod("p", spec)).await;
    let pod = cluster.phase("p", "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    cluster
        .until_event(
            "p",
            "DeadlineExceeded",
            "longer than the specified deadline",
        )
        .await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_words_come_from_their_file_or_from_the_log() {
    let cluster = Cluster::start().await;
    let (_folder, volumes) = diary();
    for (name, script, container, message) in [
        (
            "file",
            "echo -n words > /dev/termination-log",
            json!({}),
            "words",
        ),
        (
            "elsewhere",
            "echo -n there > /tmp/words",
            json!({"terminationMessagePath": "/tmp/words"}),
            "there",
        ),
        (
            "log",
            "echo loud; exit 3",
            json!({"terminationMessagePolicy": "FallbackToLogsOnError"}),
            "loud\n",
        ),
        (
            "log-of-a-success",
            "echo loud",
            json!({"terminationMessagePolicy": "FallbackToLogsOnError"}),
            "",
        ),
        (
            "too-long",
            "head -c 100000 /dev/zero | tr '\\0' x > /dev/termination-log; echo -n end >> /dev/termination-log",
            json!({}),
            "end",
        ),
    ] {
        let mut whole = sh("c", script);
        whole
            .as_object_mut()
            .unwrap()
            .extend(container.as_object().unwrap().clone());
        let spec = json!({"volumes": volumes, "restartPolicy": "Never", "containers": [whole]});
        cluster.create(pod(name, spec)).await;
        let pod = cluster
            .until(name, "over", |pod| state(pod)["terminated"].is_object())
            .await;
        let told = state(&pod)["terminated"]["message"].as_str().unwrap_or("");
        assert!(
            told.len() <= 4096 && told.ends_with(message),
            "{name}: {told:?}"
        );
        assert_eq!(told.is_empty(), message.is_empty(), "{name}: {told:?}");
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_writes_more_than_it_may_is_evicted() {
    let cluster = Cluster::start().await;
    let write = |to: &str| format!("head -c 3000000 /dev/zero > {to}; sleep 1000");
    let limited = json!({"limits": {"ephemeral-storage": "1Mi"}});
    let mut layer = sh("c", &write("/var/tmp/big"));
    layer["resources"] = limited.clone();
    let mut log = sh("c", "head -c 3000000 /dev/zero | tr '\\0' x; sleep 1000");
    log["resources"] = limited;
    let volume = sh("c", &write("/v/big"));
    for (name, container, words) in [
        (
            "layer",
            layer,
            "Container c exceeded its local ephemeral storage limit \"1Mi\". ",
        ),
        (
            "log",
            log,
            "Container c exceeded its local ephemeral storage limit \"1Mi\". ",
        ),
        (
            "volume",
            volume,
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ",
        ),
    ] {
        let spec = json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
            "terminationGracePeriodSeconds": 0, "containers": [container]});
        cluster.create(pod(name, spec)).await;
        let pod = cluster.phase(name, "Failed").await;
        assert_eq!(pod["status"]["reason"], "Evicted");
        assert_eq!(pod["status"]["message"], words);
        cluster.until_event(name, "Evicted", words).await;
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_shared_only_where_the_pod_says_so() {
    let cluster = Cluster::start().await;
    let (_folder, volumes) = diary();
    for (name, share, others) in [("shared", true, "1"), ("apart", false, "0")] {
        let count = "while ! grep -qs other /v/$0; do sleep 0.05; done; cat /proc/[0-9]*/comm | grep -c '^tail$'; true";
        let mut look = sh("c", count);
        look["command"].as_array_mut().unwrap().push(name.into());
        let other = format!("echo other > /v/{name}; exec tail -f /dev/null");
        let spec = json!({"volumes": volumes, "shareProcessNamespace": share, "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0, "containers": [look, sh("d", &other)]});
        cluster.create(pod(name, spec)).await;
        cluster
            .until(name, "counted", |pod| {
                let all = pod["status"]["containerStatuses"].as_array();
                all.is_some_and(|all| all.iter().any(|one| one["state"]["terminated"].is_object()))
            })
            .await;
        let seen = cluster.logs(name, Default::default()).await;
        // Between `echo` and `exec` the other is still called `sh`.
        assert!(seen.trim() == others || share, "{name}: {seen}");
        cluster.delete(name).await;
    }
    cluster.stop().await;
}
