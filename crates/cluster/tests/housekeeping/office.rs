//! Short words for what every test does.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::wait::{Condition, await_condition};
use sandlot_cluster::{Cluster, Config};
use serde_json::{Value, json};

/// Far longer than anything takes, so that only what never comes fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn cluster() -> Cluster {
    Cluster::start(Config::default()).await.expect("starts")
}

pub(crate) fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

/// Waits until a condition holds for an object.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, condition: impl Condition<K>)
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition))
        .await
        .unwrap_or_else(|_| panic!("waited for {name} in vain"))
        .expect("a watch");
}

/// Waits until an object is gone.
pub(crate) async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    until(api, name, |found: Option<&K>| found.is_none()).await;
}

/// ConfigMaps, of which some own others.
pub(crate) struct Maps(pub(crate) Api<ConfigMap>);

impl Maps {
    pub(crate) fn of(cluster: &Cluster) -> Maps {
        Maps(Api::default_namespaced(cluster.client()))
    }

    /// Makes a map that is owned by others.
    pub(crate) async fn make(&self, name: &str, owners: &[&ConfigMap]) -> ConfigMap {
        let owners: Vec<Value> = owners.iter().map(|owner| reference(owner)).collect();
        self.make_with(name, json!({ "ownerReferences": owners }))
            .await
    }

    /// Makes a map with more metadata.
    pub(crate) async fn make_with(&self, name: &str, mut metadata: Value) -> ConfigMap {
        metadata["name"] = name.into();
        let map = object(json!({"metadata": metadata}));
        self.0
            .create(&PostParams::default(), &map)
            .await
            .expect("created")
    }

    pub(crate) async fn get(&self, name: &str) -> Option<ConfigMap> {
        self.0.get_opt(name).await.expect("an answer")
    }

    pub(crate) async fn delete(&self, name: &str, propagation: PropagationPolicy) {
        let wish = DeleteParams {
            propagation_policy: Some(propagation),
            ..DeleteParams::default()
        };
        self.0.delete(name, &wish).await.expect("deleted");
    }

    pub(crate) async fn change(&self, name: &str, metadata: Value) {
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let changed = self.0.patch(name, &PatchParams::default(), &patch).await;
        changed.expect("changed");
    }

    pub(crate) async fn gone(&self, name: &str) {
        gone(&self.0, name).await;
    }

    /// Waits until the collector has looked at all that was written before.
    pub(crate) async fn collector_has_been_here(&self) {
        let nobody = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "nobody",
            "uid": "00000000-0000-4000-8000-000000000000",
        }]);
        let metadata = json!({ "ownerReferences": nobody });
        self.make_with("tracer", metadata).await;
        self.gone("tracer").await;
    }
}

/// How a map is named as an owner that waits.
pub(crate) fn reference(owner: &ConfigMap) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": true,
        "name": owner.metadata.name, "uid": owner.metadata.uid,
    })
}
