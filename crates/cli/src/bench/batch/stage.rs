//! Pools of stand-in pods, batches from them, and somebody else's eyes on those.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use sandlot_api::opensandbox::{BatchPhase, BatchSandbox, Pool, names};
use serde_json::{Value, json};

use super::{CLIENTS, PATIENCE};
use crate::bench::{sight::Sight, subject::Machine, writes};

/// Pools of stand-in pods and somebody else's eyes on the batches.
pub(super) struct Stage {
    pub(super) client: kube::Client,
    pub(super) pools: Api<Pool>,
    pods: Api<Pod>,
    batches: Api<BatchSandbox>,
    pub(super) sight: Sight,
}

impl Stage {
    pub(super) async fn open(machine: &Machine) -> Result<Self> {
        let client = machine.client().await?;
        let eyes = Api::namespaced(machine.client().await?, "default");
        Ok(Self {
            pools: Api::namespaced(client.clone(), "default"),
            pods: Api::namespaced(client.clone(), "default"),
            batches: Api::namespaced(client.clone(), "default"),
            sight: Sight::open(eyes, is_delivered).await?,
            client,
        })
    }

    /// Sees that a pool of stand-ins has so many to give.
    pub(super) async fn fill(&self, name: &str, count: usize) -> Result<()> {
        if self.pools.get_opt(name).await?.is_none() {
            let pool: Pool = serde_json::from_value(json!({
                "apiVersion": names::API_VERSION, "kind": "Pool", "metadata": { "name": name },
                "spec": {
                    // No node has this name, so nobody but the benchmark says how these pods are.
                    "template": { "spec": { "nodeName": "stand-in", "terminationGracePeriodSeconds": 0,
                        "containers": [{ "name": "sandbox-container", "image": "host" }] } },
                    "scaleStrategy": { "maxUnavailable": "100%" },
                    "capacitySpec": { "bufferMin": count, "bufferMax": count, "poolMin": count, "poolMax": count },
                } }))?;
            self.pools.create(&PostParams::default(), &pool).await?;
        }
        let label = format!("{}={name}", names::POOL);
        let started = Instant::now();
        loop {
            self.stand_in(&label).await?;
            let status = self.pools.get(name).await?.status.unwrap_or_default();
            if usize::try_from(status.available) == Ok(count) {
                return Ok(());
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "pool {name} has {} of {count} pods to give",
                status.available
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Does for the pods what a node would: says that they are ready, and ends those deleted.
    async fn stand_in(&self, label: &str) -> Result<()> {
        let list = self
            .pods
            .list(&ListParams::default().labels(label))
            .await?
            .items;
        stream::iter(list.iter().enumerate())
            .map(|(n, pod)| async move {
                let name = pod.name_any();
                if pod.metadata.deletion_timestamp.is_some() {
                    let now = DeleteParams::default().grace_period(0);
                    let _ = self.pods.delete(&name, &now).await;
                } else if pod.status.as_ref().is_none_or(|status| status.pod_ip.is_none()) {
                    let now = jiff::Timestamp::now().to_string();
                    let status = json!({ "status": {
                        "phase": "Running", "podIP": format!("192.0.2.{}", n % 250 + 1), "startTime": now,
                        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": now }],
                        "containerStatuses": [{ "name": "sandbox-container", "ready": true, "restartCount": 0,
                            "image": "host", "imageID": "", "started": true, "state": { "running": { "startedAt": now } } }],
                    } });
                    // One that has gone meanwhile needs nothing any more.
                    let _ = self.pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
                }
            })
            .buffer_unordered(CLIENTS)
            .collect::<()>()
            .await;
        Ok(())
    }

    pub(super) async fn create(&self, name: String, spec: Value) -> Result<()> {
        self.batches
            .create(&PostParams::default(), &object(&name, spec)?)
            .await?;
        Ok(())
    }

    pub(super) async fn deliver(
        &self,
        name: &str,
        pool: &str,
        replicas: usize,
    ) -> Result<Duration> {
        let started = Instant::now();
        self.create(name.to_owned(), batch(pool, replicas)).await?;
        Ok(self.sight.of(name, PATIENCE).await? - started)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        self.batches.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    pub(super) async fn writes_since(&self, before: &writes::Requests) -> Result<f64> {
        let after = writes::count(&self.client).await?;
        let kinds = ["batchsandboxes", "batchsandboxes/status"];
        Ok(after.since(
            before,
            &kinds,
            &["create", "post", "patch", "update", "put"],
        ))
    }
}

/// What a batch from a pool wants.
pub(super) fn batch(pool: &str, replicas: usize) -> Value {
    json!({ "replicas": replicas, "poolRef": pool })
}

/// A batch of this name.
pub(super) fn object(name: &str, spec: Value) -> Result<BatchSandbox> {
    let object = json!({ "apiVersion": names::API_VERSION, "kind": "BatchSandbox",
        "metadata": { "name": name }, "spec": spec });
    serde_json::from_value(object).context("a batch")
}

/// Whether all sandboxes are ready and all their addresses published.
fn is_delivered(batch: &BatchSandbox) -> bool {
    let published = batch
        .annotations()
        .get(names::ENDPOINTS)
        .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok())
        .unwrap_or_default();
    let wanted = usize::try_from(batch.spec.replicas).unwrap_or(0);
    batch.status.as_ref().and_then(|status| status.phase) == Some(BatchPhase::Succeed)
        && published.len() == wanted
        && published.iter().all(|ip| !ip.is_empty())
}
