//! What volumes show, and that it follows the API while a pod runs.

use serde_json::{Value, json};

use crate::Cluster;
use crate::harness::state;

/// A pod that mounts one volume at `/v`.
fn mounting(name: &str, volume: Value) -> Value {
    let mut source = json!({"name": "v"});
    if let (Some(source), Some(more)) = (source.as_object_mut(), volume.as_object()) {
        source.extend(more.clone());
    }
    json!({"metadata": {"name": name, "labels": {"tier": "front"}},
        "spec": {"terminationGracePeriodSeconds": 0, "volumes": [source],
            "containers": [{"name": "c", "image": "host", "command": ["sleep", "1000"],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn running_pods_see_config_maps_and_secrets_change() {
    let cluster = Cluster::start().await;
    let map = json!({"metadata": {"name": "map"}, "data": {"a": "1", "gone": "x"}});
    cluster.make("configmaps", map).await;
    let secret = json!({"metadata": {"name": "secret"}, "stringData": {"s": "1"}});
    cluster.make("secrets", secret).await;
    let sources = json!([{"configMap": {"name": "map"}}, {"secret": {"name": "secret"}}]);
    cluster
        .create(mounting("both", json!({"projected": {"sources": sources}})))
        .await;
    cluster
        .create(mounting("map-only", json!({"configMap": {"name": "map"}})))
        .await;
    cluster.ready("both").await;
    cluster.ready("map-only").await;
    let before = cluster.exec("map-only", "readlink /v/..data").await;

    cluster
        .change("secrets", "secret", json!({"data": {"s": "Mg=="}}))
        .await;
    cluster.until_shows("both", "cat /v/a /v/s", "12").await;
    let untouched = cluster.exec("map-only", "readlink /v/..data").await;
    assert_eq!(
        untouched, before,
        "written anew though nothing of it had changed"
    );

    let data = json!({"data": {"a": "2", "gone": null, "new": "3"}});
    cluster.change("configmaps", "map", data).await;
    cluster
        .until_shows("map-only", "cat /v/a; ls /v | tr '\\n' ' '", "2a new")
        .await;
    cluster.until_shows("both", "cat /v/a /v/new", "23").await;
    for name in ["both", "map-only"] {
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_pods_see_their_own_labels_change() {
    let cluster = Cluster::start().await;
    let field = json!({"fieldPath": "metadata.labels['tier']"});
    let items = json!([{"path": "tier", "fieldRef": field}]);
    cluster
        .create(mounting("p", json!({"downwardAPI": {"items": items}})))
        .await;
    cluster.ready("p").await;
    cluster.until_shows("p", "cat /v/tier", "front").await;
    cluster
        .change(
            "pods",
            "p",
            json!({"metadata": {"labels": {"tier": "back"}}}),
        )
        .await;
    cluster.until_shows("p", "cat /v/tier", "back").await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_starts_when_the_config_map_it_waits_for_is_made() {
    let cluster = Cluster::start().await;
    cluster
        .create(mounting("p", json!({"configMap": {"name": "late"}})))
        .await;
    cluster
        .until_event("p", "FailedMount", "configmap \"late\" not found")
        .await;
    cluster
        .make(
            "configmaps",
            json!({"metadata": {"name": "late"}, "data": {"a": "1"}}),
        )
        .await;
    cluster.ready("p").await;
    cluster.until_shows("p", "cat /v/a", "1").await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_goes_on_when_its_config_map_goes_and_the_node_starts_again() {
    let cluster = Cluster::start().await;
    cluster
        .make(
            "configmaps",
            json!({"metadata": {"name": "map"}, "data": {"a": "1"}}),
        )
        .await;
    cluster
        .create(mounting("p", json!({"configMap": {"name": "map"}})))
        .await;
    let before = cluster.ready("p").await;
    cluster.remove("configmaps", "map").await;
    let cluster = cluster.restart_node().await;
    cluster
        .until_event("p", "FailedMount", "configmap \"map\" not found")
        .await;
    let after = cluster.ready("p").await;
    assert_eq!(state(&before), state(&after));
    cluster.until_shows("p", "cat /v/a", "1").await;
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_its_pods_users_own() {
    let cluster = Cluster::start().await;
    let token = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 600}});
    let volume = json!({"projected": {"sources": [token]}});
    let mut plain = mounting("plain", volume.clone());
    plain["spec"]["securityContext"] = json!({"fsGroup": 77});
    let mut user = mounting("user", volume);
    user["spec"]["securityContext"] = json!({"runAsUser": 1234});
    for pod in [plain, user] {
        cluster.create(pod).await;
    }
    cluster.ready("plain").await;
    cluster.ready("user").await;
    let script = "stat -Lc '%u %g %a' /v/token; cut -d. -f1 /v/token | cut -c1-3";
    cluster.until_shows("user", script, "1234 0 600\neyJ").await;
    cluster.until_shows("plain", script, "0 77 640\neyJ").await;
    for name in ["plain", "user"] {
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_s_token_is_replaced_before_it_ends() {
    let cluster = Cluster::with(|config| {
        config.longest_token_use = std::time::Duration::from_secs(2);
    })
    .await;
    let token = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 600}});
    let volume = json!({"projected": {"sources": [token]}});
    cluster.create(mounting("p", volume)).await;
    let before = cluster.ready("p").await;
    // Whoever reads the file again and again has a token at every moment, and soon another.
    let script = "python3 -c '
import base64, json, time
def read():
    body = open(\"/v/token\").read().split(\".\")[1]
    return json.loads(base64.urlsafe_b64decode(body + \"==\"))
first = now = read()
end = time.time() + 60
while (now[\"exp\"] <= first[\"exp\"] or now[\"iat\"] <= first[\"iat\"]) and time.time() < end:
    time.sleep(.01); now = read()
print(now[\"exp\"] > first[\"exp\"], now[\"sub\"] == first[\"sub\"], time.time() < first[\"exp\"])
'";
    let (code, said) = cluster.exec("p", script).await;
    assert_eq!((code, said.trim()), (0, "True True True"));
    let after = cluster.ready("p").await;
    assert_eq!(state(&before), state(&after));
    cluster.delete("p").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_path_never_leads_out_of_its_volume() {
    let cluster = Cluster::start().await;
    for (name, link, path) in [
        ("absolute", "/etc", "link"),
        ("upwards", "../../../../etc", "link"),
        ("inner", "/", "link/etc"),
        ("dots", "x", "../../etc"),
    ] {
        let mount = |extra: Value| {
            let mut mount = json!({"name": "v", "mountPath": "/v"});
            mount
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            json!([mount])
        };
        let pod = json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0, "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [{"name": "i", "image": "host", "volumeMounts": mount(json!({})),
                "command": ["ln", "-s", link, "/v/link"]}],
            "containers": [{"name": "c", "image": "host", "command": ["ls", "/v"],
                "volumeMounts": mount(json!({"subPath": path}))}]}});
        // A path with dots is refused by the API already, where the API checks pods.
        if cluster.try_create(pod).await.is_err() {
            continue;
        }
        cluster
            .until(name, "refused", |pod| {
                state(pod)["waiting"]["reason"] == "CreateContainerError"
            })
            .await;
        cluster.delete(name).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_paths_are_what_their_type_says_or_are_refused() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(at("dir")).unwrap();
    std::fs::write(at("file"), "x").unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let cases = [
        ("dir", "Directory", true),
        ("file", "Directory", false),
        ("file", "File", true),
        ("dir", "File", false),
        ("socket", "Socket", true),
        ("file", "Socket", false),
        ("file", "CharDevice", false),
        ("file", "BlockDevice", false),
        ("missing", "", true),
        ("missing-2", "Directory", false),
        ("new-dir", "DirectoryOrCreate", true),
        ("new-file", "FileOrCreate", true),
    ];
    let name_of = |path: &str, kind: &str| format!("{path}-as-{}", kind.to_lowercase());
    for (path, kind, _) in cases {
        let volume = json!({"hostPath": {"path": at(path), "type": kind}});
        let name = name_of(path, kind).trim_end_matches('-').to_owned();
        cluster.create(mounting(&name, volume)).await;
    }
    for (path, kind, good) in cases {
        let name = name_of(path, kind).trim_end_matches('-').to_owned();
        if good {
            cluster.ready(&name).await;
        } else {
            cluster.until_event(&name, "FailedMount", "hostPath").await;
        }
        cluster.delete(&name).await;
    }
    cluster.stop().await;
}
