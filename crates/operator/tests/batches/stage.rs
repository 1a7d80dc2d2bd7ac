//! A stage for pools and batches: a real API in memory, the operator, pretending nodes.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::await_condition,
};
use sandlot_api::opensandbox::{BatchPhase, BatchSandbox, BatchSandboxStatus, Pool, names};
use sandlot_cluster::{Cluster, Config};
use sandlot_operator::{Proof, Settings, install_crds};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::executors::{Executors, stand_in};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    pub client: Client,
    pub executors: Arc<Executors>,
    settings: Settings,
    operator: Option<(JoinHandle<()>, CancellationToken)>,
    _nodes: DropGuard,
    _cluster: Cluster,
}

impl Stage {
    /// A stage on which the operator works.
    pub async fn set() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with some settings changed.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        settings.agent.proof = Proof::Nothing;
        change(&mut settings);
        let cluster = Cluster::start(Config::default()).await.unwrap();
        let client = cluster.client();
        install_crds(client.clone()).await.unwrap();
        let executors = Executors::new();
        let stop = CancellationToken::new();
        tokio::spawn(stand_in(client.clone(), executors.clone(), stop.clone()));
        let mut stage = Self {
            client,
            executors,
            settings,
            operator: None,
            _nodes: stop.drop_guard(),
            _cluster: cluster,
        };
        stage.start_operator();
        stage
    }

    pub fn start_operator(&mut self) {
        let cancel = CancellationToken::new();
        let (client, token) = (self.client.clone(), cancel.clone());
        let settings = self.settings.clone();
        let work = tokio::spawn(async move {
            sandlot_operator::run(client, settings, token)
                .await
                .unwrap();
        });
        self.operator = Some((work, cancel));
    }

    /// Ends the operator as a power cut would.
    pub async fn kill_operator(&mut self) {
        if let Some((work, _)) = self.operator.take() {
            work.abort();
            let _ = work.await;
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes an object as a user would.
    pub async fn make<K>(&self, name: &str, spec: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + serde::Serialize
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": { "name": name }, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// A pool that keeps exactly `idle` idle pods, up to `most` in all.
    pub async fn pool(&self, name: &str, idle: u32, most: u32) -> Pool {
        self.make(
            name,
            json!({
                "template": template(),
                "capacitySpec": { "bufferMin": idle, "bufferMax": idle, "poolMin": 0, "poolMax": most },
                "scaleStrategy": { "maxUnavailable": "100%" },
            }),
        )
        .await
    }

    /// A batch from a pool, as the documents' samples have it: with a template, too.
    pub async fn batch(&self, name: &str, pool: &str, replicas: u32) -> BatchSandbox {
        let spec = json!({ "replicas": replicas, "poolRef": pool, "template": template() });
        self.make(name, spec).await
    }

    pub async fn change<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let patch = Patch::Merge(patch);
        self.api::<K>()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.api::<K>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Waits until an object is as wanted, and returns it.
    pub async fn until<K>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let condition = |object: Option<&K>| object.is_some_and(&wanted);
        let waited =
            tokio::time::timeout(PATIENCE, await_condition(self.api::<K>(), name, condition)).await;
        match waited {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => panic!(
                "{name} is not as wanted: {:#?}",
                self.api::<K>().get_opt(name).await
            ),
        }
    }

    /// Waits until an object is gone.
    pub async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let condition = |object: Option<&K>| object.is_none();
        let gone =
            tokio::time::timeout(PATIENCE, await_condition(self.api::<K>(), name, condition)).await;
        assert!(
            gone.is_ok(),
            "{name} is still there: {:#?}",
            self.api::<K>().get_opt(name).await
        );
    }

    /// Waits until all sandboxes of a batch are delivered.
    pub async fn until_delivered(&self, name: &str) -> BatchSandbox {
        self.until::<BatchSandbox>(name, |batch| {
            let status = status(batch);
            status.phase == Some(BatchPhase::Succeed)
                && status.ready == batch.spec.replicas
                && status.observed_generation == batch.metadata.generation
        })
        .await
    }

    pub async fn until_available(&self, pool: &str, available: i32) -> Pool {
        self.until::<Pool>(pool, |pool| {
            pool.status
                .as_ref()
                .is_some_and(|status| status.available == available)
        })
        .await
    }

    pub async fn pods(&self) -> Vec<Pod> {
        let all = self
            .api::<Pod>()
            .list(&ListParams::default())
            .await
            .unwrap();
        all.items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }

    /// Waits until the pods that live are as wanted.
    pub async fn until_pods(&self, wanted: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pods = self.pods().await;
            if wanted(&pods) {
                return pods;
            }
            let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
            assert!(
                tokio::time::Instant::now() < deadline,
                "the pods are not as wanted: {names:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where each address is.
    pub async fn pod_by_ip(&self) -> HashMap<String, String> {
        let pods = self.pods().await;
        pods.iter()
            .filter_map(|pod| Some((pod.status.as_ref()?.pod_ip.clone()?, pod.name_any())))
            .collect()
    }
}

pub fn template() -> Value {
    json!({ "spec": { "shareProcessNamespace": true, "containers": [
        { "name": "sandbox-container", "image": "ubuntu:latest", "command": ["sleep", "3600"] },
        { "name": "task-executor", "image": "<task-executor-image>:<tag>",
          "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } } } ] } })
}

pub fn status(batch: &BatchSandbox) -> BatchSandboxStatus {
    batch.status.clone().unwrap_or_default()
}

/// The condition that holds, with its reason and message.
pub fn condition(batch: &BatchSandbox) -> (String, String, String) {
    let conditions = status(batch).conditions.unwrap_or_default();
    let first = conditions.first().cloned().expect("a condition");
    (
        first.kind,
        first.reason.unwrap_or_default(),
        first.message.unwrap_or_default(),
    )
}

/// The addresses that a batch publishes.
pub fn endpoints(batch: &BatchSandbox) -> Vec<String> {
    let text = batch.annotations().get(names::ENDPOINTS);
    text.map_or_else(Vec::new, |text| serde_json::from_str(text).unwrap())
}

/// The pods in one of a batch's annotations.
pub fn listed(batch: &BatchSandbox, annotation: &str) -> Vec<String> {
    let Some(text) = batch.annotations().get(annotation) else {
        return Vec::new();
    };
    let list: Value = serde_json::from_str(text).unwrap();
    let pods = list["pods"].as_array().unwrap();
    pods.iter()
        .map(|pod| pod.as_str().unwrap().to_owned())
        .collect()
}
