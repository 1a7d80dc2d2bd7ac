//! A `kube::Client` in process does what it would do with a real cluster.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams,
};
use kube::api::{WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use sandlot_cluster::{Cluster, Config};
use serde_json::{Value, json};

async fn cluster() -> Cluster {
    Cluster::start(Config::default()).await.expect("starts")
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn widgets_definition() -> CustomResourceDefinition {
    object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    }))
}

fn widgets(client: &kube::Client) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    Api::default_namespaced_with(client.clone(), &resource)
}

#[tokio::test]
async fn a_defined_kind_is_served_as_soon_as_it_is_defined() {
    let cluster = cluster().await;
    let client = cluster.client();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .patch(
            "widgets.example.com",
            &PatchParams::apply("test"),
            &Patch::Apply(widgets_definition()),
        )
        .await
        .expect("applied");

    let widgets = widgets(&client);
    let made: DynamicObject = object(json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"generateName": "w-"}, "spec": {"size": 1}
    }));
    let made = widgets
        .create(&PostParams::default(), &made)
        .await
        .expect("created");
    let name = made.metadata.name.clone().expect("a name");
    assert!(name.starts_with("w-") && name.len() == 7, "{name}");
    assert_eq!(made.metadata.generation, Some(1));

    let patch = Patch::Merge(json!({"spec": {"size": 2}, "status": {"seen": true}}));
    let changed = widgets
        .patch(&name, &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(changed.metadata.generation, Some(2));
    assert!(
        changed.data.get("status").is_none(),
        "the status has a path of its own"
    );

    let patch = Patch::Merge(json!({"spec": {"size": 3}, "status": {"seen": true}}));
    let changed = widgets
        .patch_status(&name, &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(changed.data["status"]["seen"], true);
    assert_eq!(
        (changed.metadata.generation, &changed.data["spec"]["size"]),
        (Some(2), &json!(2))
    );

    widgets
        .delete(&name, &DeleteParams::default())
        .await
        .expect("deleted");
    let error = widgets.get(&name).await.expect_err("gone");
    assert!(
        matches!(error, kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound")
    );

    definitions
        .delete("widgets.example.com", &DeleteParams::default())
        .await
        .expect("deleted");
    cluster.stop().await;
}

#[tokio::test]
async fn a_watch_tells_of_every_change_in_order() {
    let cluster = cluster().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let list = maps.list(&ListParams::default()).await.expect("lists");
    let version = list.metadata.resource_version.expect("a version");
    let mut events = maps
        .watch(&WatchParams::default().timeout(20), &version)
        .await
        .expect("watches")
        .boxed();

    let map: ConfigMap = object(json!({"metadata": {"name": "a"}, "data": {"k": "1"}}));
    maps.create(&PostParams::default(), &map)
        .await
        .expect("created");
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    maps.patch("a", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    maps.delete("a", &DeleteParams::default())
        .await
        .expect("deleted");

    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await.expect("an event") {
        let (what, map) = match event {
            WatchEvent::Added(map) => ("added", map),
            WatchEvent::Modified(map) => ("modified", map),
            WatchEvent::Deleted(map) => ("deleted", map),
            other => panic!("{other:?}"),
        };
        seen.push((what, map.data.expect("data")["k"].clone()));
        if what == "deleted" {
            break;
        }
    }
    let expected =
        [("added", "1"), ("modified", "2"), ("deleted", "2")].map(|(what, k)| (what, k.to_owned()));
    assert_eq!(seen, expected);
    cluster.stop().await;
}

#[tokio::test]
async fn a_runtime_watcher_gets_the_initial_list_as_a_stream() {
    let cluster = cluster().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let pod: Pod = object(json!({
        "metadata": {"name": "p", "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }));
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("created");

    let config = watcher::Config::default().labels("app=x").streaming_lists();
    let mut found = watcher(pods, config).applied_objects().boxed();
    let first = tokio::time::timeout(Duration::from_secs(10), found.try_next())
        .await
        .expect("in time");
    let pod = first.expect("no error").expect("a pod");
    assert_eq!(pod.metadata.name.as_deref(), Some("p"));
    assert_eq!(
        pod.status.expect("a status").phase.as_deref(),
        Some("Pending")
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_are_made_at_the_same_time_never_share_an_address() {
    let cluster = cluster().await;
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    let make = |name: String, wanted: Option<&str>| {
        let (services, wanted) = (services.clone(), wanted.map(str::to_owned));
        async move {
            let service = object(json!({
                "metadata": {"name": name},
                "spec": {"type": "NodePort", "clusterIP": wanted, "ports": [{"port": 80}]},
            }));
            services.create(&PostParams::default(), &service).await
        }
    };
    let same = (0..20).map(|n| make(format!("same-{n}"), Some("10.96.7.7")));
    let made = futures::future::join_all(same).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);

    let any = (0..50).map(|n| make(format!("any-{n}"), None));
    let made = futures::future::try_join_all(any)
        .await
        .expect("all are made");
    let specs = made
        .into_iter()
        .map(|service| service.spec.expect("a spec"));
    let (addresses, ports): (HashSet<_>, HashSet<_>) = specs
        .map(|spec| (spec.cluster_ip, spec.ports.expect("ports")[0].node_port))
        .unzip();
    assert_eq!((addresses.len(), ports.len()), (50, 50));
    cluster.stop().await;
}

#[tokio::test]
async fn who_runs_ahead_of_the_disk_sees_and_says_the_same_as_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        database: Some(folder.path().join("cluster.db")),
        ..Config::default()
    };
    let cluster = Cluster::start(config).await.expect("starts");
    let others: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let ahead: Api<ConfigMap> = Api::default_namespaced(cluster.client_ahead());
    let from = others.list(&ListParams::default()).await.expect("listed");
    let from = from.metadata.resource_version.expect("a version");
    let mut sights = ahead
        .watch(&WatchParams::default(), &from)
        .await
        .expect("watched")
        .boxed();
    for n in 0..20 {
        let name = format!("n-{n}");
        let map = object(json!({"metadata": {"name": name}, "data": {"n": n.to_string()}}));
        let params = PostParams::default();
        let (made, seen) = tokio::join!(others.create(&params, &map), sights.try_next());
        made.expect("made");
        let Some(WatchEvent::Added(seen)) = seen.expect("told") else {
            panic!("no new object");
        };
        assert_eq!(seen.metadata.name.as_deref(), Some(&*name));
        let version = seen.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "data": {"more": "yes"}});
        let patched = ahead
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("patched upon what was seen");
        let Some(WatchEvent::Modified(seen)) = sights.try_next().await.expect("told") else {
            panic!("no change");
        };
        assert_eq!(seen, patched);
        // A list of who runs ahead is never behind what it has seen.
        let listed = ahead.list(&ListParams::default()).await.expect("listed");
        assert!(listed.items.contains(&patched));
        cluster.settled().await;
        assert_eq!(others.get(&name).await.expect("read"), patched);
    }
    cluster.stop().await;
}

fn pod(name: &str) -> Pod {
    object(json!({
        "metadata": {"name": name, "labels": {"state": "idle"}},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "a", "image": "i", "env": [{"name": "X", "value": "\"1\""}]}]},
    }))
}

/// All of an object but what no two objects and no two moments have in common.
fn in_common(pod: &Pod) -> Value {
    let mut pod = serde_json::to_value(pod).expect("JSON");
    for of_its_own in ["name", "uid", "resourceVersion", "creationTimestamp"] {
        pod["metadata"][of_its_own].take();
    }
    if let Some(entries) = pod["metadata"]["managedFields"].as_array_mut() {
        for entry in entries.iter_mut() {
            entry["time"].take();
        }
        // They are listed by their times.
        entries.sort_by_key(Value::to_string);
    }
    pod
}

/// The one is patched in a way in which all but its metadata may stay unread, the other is not.
#[tokio::test]
async fn what_is_written_in_a_pods_margin_is_what_any_other_patch_makes_of_it() {
    let cluster = cluster().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    for name in ["one", "two"] {
        let by = PostParams {
            field_manager: Some("maker".into()),
            ..PostParams::default()
        };
        pods.create(&by, &pod(name)).await.expect("created");
        let status = Patch::Merge(json!({"status": {"phase": "Running", "podIP": "10.0.0.1"}}));
        let by = PatchParams::apply("node");
        pods.patch_status(name, &by, &status).await.expect("told");
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let owner: ConfigMap = object(json!({"metadata": {"name": "owner"}}));
    let owner = maps.create(&PostParams::default(), &owner).await;
    let owner = owner.expect("created").metadata.uid;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner});
    let changes = [
        ("giver", json!({"labels": {"state": "given", "to": "ann"}})),
        (
            "maker",
            json!({"labels": {"state": "idle"}, "annotations": {"note": "\u{e9}\"\\"}}),
        ),
        (
            "giver",
            json!({"labels": {"to": null}, "annotations": {"note": "b"}}),
        ),
        ("giver", json!({"annotations": {"note": "b"}})),
        ("eve", json!({"labels": null, "annotations": {"a/b": "1"}})),
        ("eve", json!({"ownerReferences": [owner]})),
        ("eve", json!({"name": "not-mine"})),
        ("eve", json!({"labels": {"no spaces": "x"}})),
        ("eve", json!({"labels": {"a": 1}})),
        ("eve", json!({"uid": "another"})),
        ("eve", json!({"resourceVersion": "1"})),
    ];
    for (manager, change) in changes {
        let by = PatchParams {
            field_manager: Some(manager.into()),
            ..PatchParams::default()
        };
        let patch = json!({"metadata": change});
        let one = pods.patch("one", &by, &Patch::Merge(&patch)).await;
        let other = pods.patch("two", &by, &Patch::Strategic(&patch)).await;
        match (one, other) {
            (Ok(one), Ok(other)) => assert_eq!(in_common(&one), in_common(&other), "{change}"),
            (Err(kube::Error::Api(one)), Err(kube::Error::Api(other))) => {
                let [one, other] = [one, other].map(|status| {
                    let message = status.message.replace("\"two\"", "\"one\"");
                    let (words, _) = message.split_once("object meta").unwrap_or((&message, ""));
                    (status.code, words.replace("pods/two", "pods/one"))
                });
                assert_eq!(one, other, "{change}");
            }
            differ => panic!("{change}: {differ:?}"),
        }
        let (one, other) = (pods.get("one").await, pods.get("two").await);
        assert_eq!(
            in_common(&one.expect("is there")),
            in_common(&other.expect("is there"))
        );
    }
    let running = ListParams::default().fields("status.phase=Running");
    assert_eq!(pods.list(&running).await.expect("lists").items.len(), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn a_policy_sees_the_whole_of_a_pod_in_whose_margin_is_written() {
    let cluster = cluster().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    pods.create(&PostParams::default(), &pod("one"))
        .await
        .expect("created");
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client());
    let policy = object(json!({
        "metadata": {"name": "images"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["UPDATE"], "resources": ["pods"]}]},
            "validations": [{"expression": "object.spec.containers[0].image != 'i'", "message": "not this image"}],
        },
    }));
    policies
        .create(&PostParams::default(), &policy)
        .await
        .expect("created");
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client());
    let binding = object(json!({
        "metadata": {"name": "images"},
        "spec": {"policyName": "images", "validationActions": ["Deny"]},
    }));
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .expect("created");

    let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let refused = pods.patch("one", &PatchParams::default(), &patch).await;
    let refused = refused.expect_err("refused").to_string();
    assert!(refused.contains("not this image"), "{refused}");
    cluster.stop().await;
}
