//! Services know their pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use sandlot_cluster::Cluster;
use serde_json::{Value, json};

use crate::office::{cluster, gone, object, until};

struct World {
    cluster: Cluster,
    pods: Api<Pod>,
    services: Api<Service>,
    endpoints: Api<Endpoints>,
    slices: Api<EndpointSlice>,
}

impl World {
    async fn new() -> World {
        let cluster = cluster().await;
        let client = cluster.client();
        World {
            cluster,
            pods: Api::default_namespaced(client.clone()),
            services: Api::default_namespaced(client.clone()),
            endpoints: Api::default_namespaced(client.clone()),
            slices: Api::default_namespaced(client),
        }
    }

    async fn serve(&self, name: &str, spec: Value) {
        let service = object(json!({"metadata": {"name": name}, "spec": spec}));
        self.services
            .create(&PostParams::default(), &service)
            .await
            .expect("created");
    }

    async fn run(&self, name: &str, app: &str, ip: &str, ready: bool) {
        let pod = object(json!({
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": "here", "containers": [
                {"name": "c", "image": "host", "ports": [{"name": "http", "containerPort": 8080}]},
            ]},
        }));
        self.pods
            .create(&PostParams::default(), &pod)
            .await
            .expect("created");
        self.set(name, ip, ready).await;
    }

    async fn set(&self, name: &str, ip: &str, ready: bool) {
        let ready = if ready { "True" } else { "False" };
        let status = json!({"status": {
            "podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
        }});
        let params = PatchParams::default();
        self.pods
            .patch_status(name, &params, &Patch::Merge(status))
            .await
            .expect("changed");
    }

    /// Waits until a service has these addresses, ready and not.
    async fn until(&self, service: &str, ready: &[&str], unready: &[&str]) {
        let (ready, unready) = (words(ready), words(unready));
        let told = |endpoints: Option<&Endpoints>| {
            endpoints
                .is_some_and(|endpoints| addresses(endpoints) == (ready.clone(), unready.clone()))
        };
        until(&self.endpoints, service, told).await;
    }

    /// The slices of a service; they come a moment after its endpoints.
    async fn slices_of(&self, service: &str) -> Vec<EndpointSlice> {
        let selector = format!("kubernetes.io/service-name={service}");
        let wanted = ListParams::default().labels(&selector);
        let until_there = async {
            loop {
                let found = self.slices.list(&wanted).await.expect("a list").items;
                if !found.is_empty() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), until_there).await;
        waited.expect("slices")
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn addresses(endpoints: &Endpoints) -> (Vec<String>, Vec<String>) {
    let (mut ready, mut unready) = (Vec::new(), Vec::new());
    for subset in endpoints.subsets.iter().flatten() {
        ready.extend(
            subset
                .addresses
                .iter()
                .flatten()
                .map(|address| address.ip.clone()),
        );
        unready.extend(
            subset
                .not_ready_addresses
                .iter()
                .flatten()
                .map(|address| address.ip.clone()),
        );
    }
    ready.sort();
    unready.sort();
    (ready, unready)
}

fn web() -> Value {
    json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]})
}

#[tokio::test]
async fn a_service_follows_the_pods_it_selects() {
    let world = World::new().await;
    world.run("a", "web", "10.0.0.1", true).await;
    world.run("other", "db", "10.0.0.9", true).await;
    world.serve("web", web()).await;
    world.until("web", &["10.0.0.1"], &[]).await;

    world.run("b", "web", "10.0.0.2", false).await;
    world.until("web", &["10.0.0.1"], &["10.0.0.2"]).await;
    world.set("b", "10.0.0.2", true).await;
    world.until("web", &["10.0.0.1", "10.0.0.2"], &[]).await;

    let relabel = Patch::Merge(json!({"metadata": {"labels": {"app": "retired"}}}));
    world
        .pods
        .patch("a", &PatchParams::default(), &relabel)
        .await
        .expect("changed");
    world.until("web", &["10.0.0.2"], &[]).await;
    // It ends gracefully, and gets no more calls while it does.
    world
        .pods
        .delete("b", &DeleteParams::default())
        .await
        .expect("deleted");
    world.until("web", &[], &[]).await;
    drop(world.cluster);
}

#[tokio::test]
async fn ports_are_found_by_their_names_in_the_pod() {
    let world = World::new().await;
    world.run("a", "web", "10.0.0.1", true).await;
    world.serve("web", web()).await;
    world.until("web", &["10.0.0.1"], &[]).await;
    let endpoints = world.endpoints.get("web").await.expect("there");
    let ports = endpoints.subsets.unwrap()[0].ports.clone().unwrap();
    assert_eq!((ports[0].port, ports[0].name.as_deref()), (8080, None));

    let slices = world.slices_of("web").await;
    assert_eq!(slices.len(), 1);
    let endpoint = &slices[0].endpoints[0];
    assert_eq!(endpoint.addresses, ["10.0.0.1"]);
    assert_eq!(
        endpoint.target_ref.as_ref().unwrap().name.as_deref(),
        Some("a")
    );
    assert_eq!(endpoint.conditions.as_ref().unwrap().ready, Some(true));
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
}

#[tokio::test]
async fn what_belongs_to_a_service_goes_with_it() {
    let world = World::new().await;
    world.serve("web", web()).await;
    world.until("web", &[], &[]).await;
    let slice = world
        .slices_of("web")
        .await
        .remove(0)
        .metadata
        .name
        .unwrap();
    world
        .services
        .delete("web", &DeleteParams::default())
        .await
        .expect("deleted");
    gone(&world.endpoints, "web").await;
    gone(&world.slices, &slice).await;
}

#[tokio::test]
async fn what_people_change_or_delete_is_put_right() {
    let world = World::new().await;
    world.run("a", "web", "10.0.0.1", true).await;
    world.serve("web", web()).await;
    world.until("web", &["10.0.0.1"], &[]).await;
    let wrong = Patch::Merge(json!({"subsets": [{"addresses": [{"ip": "10.9.9.9"}]}]}));
    world
        .endpoints
        .patch("web", &PatchParams::default(), &wrong)
        .await
        .expect("changed");
    world.until("web", &["10.0.0.1"], &[]).await;
    world
        .endpoints
        .delete("web", &DeleteParams::default())
        .await
        .expect("deleted");
    world.until("web", &["10.0.0.1"], &[]).await;
}

#[tokio::test]
async fn a_service_without_a_selector_is_left_to_its_owner() {
    let world = World::new().await;
    let by_hand = object(json!({
        "metadata": {"name": "elsewhere"}, "subsets": [{"addresses": [{"ip": "10.9.9.9"}]}],
    }));
    world
        .endpoints
        .create(&PostParams::default(), &by_hand)
        .await
        .expect("created");
    world
        .serve("elsewhere", json!({"ports": [{"port": 80}]}))
        .await;
    world.serve("web", web()).await;
    world.until("web", &[], &[]).await;
    world.until("elsewhere", &["10.9.9.9"], &[]).await;
}
