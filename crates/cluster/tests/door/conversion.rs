//! A kind with two shapes, and the webhook that knows both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch,
    PatchParams, PostParams, WatchEvent, WatchParams,
};
use sandlot_cluster::{Cluster, Config};
use serde_json::{Value, json};

use crate::https::Https;

/// A cluster with hosts: `v1` has `spec.address` ("name:port"), `v2` has `spec.name` and
/// `spec.port`. The webhook can be broken.
struct Hosts {
    cluster: Cluster,
    broken: Arc<AtomicBool>,
}

impl Hosts {
    /// Stores the version `stored`.
    async fn start(stored: &str) -> Hosts {
        let broken = Arc::new(AtomicBool::new(false));
        let breaks = Arc::clone(&broken);
        let webhook =
            Https::start(move |_, review| convert(review, breaks.load(Ordering::SeqCst))).await;
        let cluster = Cluster::start(Config::default()).await.unwrap();
        let hosts = Hosts { cluster, broken };
        hosts.define(stored, &webhook).await;
        hosts
    }

    async fn define(&self, stored: &str, webhook: &Https) {
        let version = |name: &str, properties: Value| {
            json!({
                "name": name, "served": true, "storage": name == stored,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": properties},
                }}},
            })
        };
        let text = json!({"type": "string"});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "hosts.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "hosts", "kind": "Host"},
                "versions": [
                    version("v1", json!({"address": text})),
                    version("v2", json!({"name": text, "port": text})),
                ],
                "conversion": {"strategy": "Webhook", "webhook": {
                    "clientConfig": webhook.client_config("convert"),
                    "conversionReviewVersions": ["v1"],
                }},
            },
        });
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        ));
        let all: Api<DynamicObject> = Api::all_with(self.cluster.client(), &resource);
        all.create(
            &PostParams::default(),
            &serde_json::from_value(definition).unwrap(),
        )
        .await
        .unwrap();
    }

    fn of(&self, version: &str) -> Api<DynamicObject> {
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", version, "Host"));
        Api::default_namespaced_with(self.cluster.client(), &resource)
    }
}

fn convert(review: &Value, broken: bool) -> Value {
    let request = &review["request"];
    let version = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let objects: Vec<Value> = objects
        .iter()
        .map(|object| shaped(object, version))
        .collect();
    let result = match broken {
        true => json!({"status": "Failure", "message": "no idea how"}),
        false => json!({"status": "Success"}),
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {"uid": request["uid"], "result": result, "convertedObjects": objects},
    })
}

fn shaped(object: &Value, version: &str) -> Value {
    let spec = &object["spec"];
    let mut shaped = object.clone();
    shaped["apiVersion"] = version.into();
    shaped["spec"] = if version.ends_with("v1") {
        let text = |key: &str| spec[key].as_str().unwrap().to_owned();
        json!({"address": format!("{}:{}", text("name"), text("port"))})
    } else {
        let (name, port) = spec["address"].as_str().unwrap().split_once(':').unwrap();
        json!({"name": name, "port": port})
    };
    shaped
}

fn host(name: &str, address: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "example.com/v1", "kind": "Host",
        "metadata": {"name": name}, "spec": {"address": address},
    }))
    .unwrap()
}

#[tokio::test]
async fn an_object_is_read_and_written_in_every_version_of_its_kind() {
    for stored in ["v1", "v2"] {
        let hosts = Hosts::start(stored).await;
        let (first, second) = (hosts.of("v1"), hosts.of("v2"));
        let made = first
            .create(&PostParams::default(), &host("h", "a:1"))
            .await
            .unwrap();
        assert_eq!(made.data["spec"], json!({"address": "a:1"}));
        let got = second.get("h").await.unwrap();
        assert_eq!(got.types.as_ref().unwrap().api_version, "example.com/v2");
        assert_eq!(got.data["spec"], json!({"name": "a", "port": "1"}));
        assert_eq!(
            got.metadata.resource_version,
            made.metadata.resource_version
        );

        let patch = Patch::Merge(json!({"spec": {"port": "2"}}));
        let patched = second
            .patch("h", &PatchParams::default(), &patch)
            .await
            .unwrap();
        assert_eq!(patched.metadata.generation, Some(2));
        assert_eq!(
            first.get("h").await.unwrap().data["spec"],
            json!({"address": "a:2"})
        );

        first
            .create(&PostParams::default(), &host("i", "b:3"))
            .await
            .unwrap();
        let listed = second.list(&ListParams::default()).await.unwrap();
        let ports: Vec<&Value> = listed
            .items
            .iter()
            .map(|host| &host.data["spec"]["port"])
            .collect();
        assert_eq!(ports, ["2", "3"]);
        let last = second.delete("h", &DeleteParams::default()).await.unwrap();
        assert!(last.is_right(), "it is gone at once");
        hosts.cluster.stop().await;
    }
}

#[tokio::test]
async fn a_watch_shows_its_own_version_whoever_writes() {
    let hosts = Hosts::start("v1").await;
    hosts
        .of("v1")
        .create(&PostParams::default(), &host("h", "a:1"))
        .await
        .unwrap();
    let seen = hosts
        .of("v2")
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    let mut seen = seen.boxed();
    let patch = Patch::Merge(json!({"spec": {"address": "a:2"}}));
    hosts
        .of("v1")
        .patch("h", &PatchParams::default(), &patch)
        .await
        .unwrap();
    hosts
        .of("v1")
        .delete("h", &DeleteParams::default())
        .await
        .unwrap();
    let mut ports = Vec::new();
    while ports.len() < 3 {
        let host = match seen.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(host) | WatchEvent::Modified(host) | WatchEvent::Deleted(host) => {
                host
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(host.types.unwrap().api_version, "example.com/v2");
        ports.push(host.data["spec"]["port"].as_str().unwrap().to_owned());
    }
    assert_eq!(ports, ["1", "2", "2"]);
    drop(seen);
    hosts.cluster.stop().await;
}

#[tokio::test]
async fn a_broken_webhook_is_named_and_harms_only_what_needs_it() {
    let hosts = Hosts::start("v1").await;
    let (first, second) = (hosts.of("v1"), hosts.of("v2"));
    first
        .create(&PostParams::default(), &host("h", "a:1"))
        .await
        .unwrap();
    hosts.broken.store(true, Ordering::SeqCst);
    let error = second.get("h").await.unwrap_err().to_string();
    assert!(
        error.contains("conversion webhook of hosts.example.com failed: no idea how"),
        "{error}"
    );
    assert!(second.list(&ListParams::default()).await.is_err());
    let patch = Patch::Merge(json!({"spec": {"port": "2"}}));
    assert!(
        second
            .patch("h", &PatchParams::default(), &patch)
            .await
            .is_err()
    );
    assert_eq!(
        first.get("h").await.unwrap().data["spec"],
        json!({"address": "a:1"})
    );
    hosts.broken.store(false, Ordering::SeqCst);
    assert_eq!(second.get("h").await.unwrap().data["spec"]["port"], "1");
    hosts.cluster.stop().await;
}
