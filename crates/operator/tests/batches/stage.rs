//! A stage for pools and batches: pods that are ready at addresses of their own, with executors
//! that pretend.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use kube::ResourceExt;
use sandlot_api::opensandbox::{BatchPhase, BatchSandbox, BatchSandboxStatus, Pool, names};
use sandlot_cluster::Config;
use sandlot_operator::{Proof, Settings};
use serde_json::{Value, json};

use crate::{
    executors::{Executors, stand_in},
    floor::Floor,
};

pub struct Stage {
    pub executors: Arc<Executors>,
    floor: Floor,
}

impl Deref for Stage {
    type Target = Floor;

    fn deref(&self) -> &Floor {
        &self.floor
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Floor {
        &mut self.floor
    }
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
        let executors = Executors::new();
        let own = executors.clone();
        let nodes = |client, stop| stand_in(client, own, stop);
        let floor = Floor::lay(Config::default(), settings, nodes).await;
        Self { executors, floor }
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
