//! Pools of stand-in pods, batches from them, and somebody else's eyes on those.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::wait::await_condition,
};
use sandlot_api::opensandbox::{BatchPhase, BatchSandbox, Pool, names};
use serde_json::{Value, json};

use super::PATIENCE;
use crate::bench::{
    sight::Sight,
    stand_in::{StandIns, on_no_node},
    subject::Machine,
    writes,
};

/// Pools of stand-in pods and somebody else's eyes on the batches.
pub(super) struct Stage {
    client: kube::Client,
    pools: Api<Pool>,
    batches: Api<BatchSandbox>,
    pub(super) sight: Sight,
    _nodes: StandIns,
}

impl Stage {
    pub(super) async fn open(machine: &Machine) -> Result<Self> {
        let client = machine.client().await?;
        let eyes = Api::namespaced(machine.client().await?, "default");
        let pods: Api<Pod> = Api::namespaced(machine.client().await?, "default");
        Ok(Self {
            pools: Api::namespaced(client.clone(), "default"),
            batches: Api::namespaced(client.clone(), "default"),
            sight: Sight::open(eyes, is_delivered).await?,
            _nodes: StandIns::begin(pods).await?,
            client,
        })
    }

    /// Makes a pool of stand-ins, and waits until it has so many to give.
    pub(super) async fn fill(&self, name: &str, count: usize) -> Result<()> {
        let mut template = on_no_node();
        template["terminationGracePeriodSeconds"] = json!(0);
        template["containers"] = json!([{ "name": "executor", "image": "host" }]);
        let capacity =
            json!({ "bufferMin": count, "bufferMax": count, "poolMin": count, "poolMax": count });
        let pool: Pool = serde_json::from_value(json!({
            "apiVersion": names::API_VERSION, "kind": "Pool", "metadata": { "name": name },
            "spec": { "template": { "spec": template }, "capacitySpec": capacity,
                "scaleStrategy": { "maxUnavailable": "100%" } } }))?;
        self.pools.create(&PostParams::default(), &pool).await?;
        until_available(&self.pools, name, count).await
    }

    /// Removes batches and their pool, and waits until all is gone: the next round begins on an
    /// empty stage.
    pub(super) async fn clear(&self, pool: &str, batches: &[String]) -> Result<()> {
        for name in batches {
            self.batches.delete(name, &DeleteParams::default()).await?;
        }
        for name in batches {
            let gone = |batch: Option<&BatchSandbox>| batch.is_none();
            let going = await_condition(self.batches.clone(), name, gone);
            tokio::time::timeout(PATIENCE, going)
                .await
                .with_context(|| format!("batch {name} does not go"))??;
        }
        self.pools.delete(pool, &DeleteParams::default()).await?;
        let gone = await_condition(self.pools.clone(), pool, |pool: Option<&Pool>| {
            pool.is_none()
        });
        tokio::time::timeout(PATIENCE, gone)
            .await
            .with_context(|| format!("pool {pool} does not go"))??;
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

    pub(super) async fn requests(&self) -> Result<writes::Requests> {
        writes::count(&self.client).await
    }

    /// Writes about batches.
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

/// Waits until a pool has so many pods to give.
pub(super) async fn until_available(pools: &Api<Pool>, name: &str, wanted: usize) -> Result<()> {
    let full = |pool: Option<&Pool>| {
        let status = pool.and_then(|pool| pool.status.as_ref());
        status.is_some_and(|status| usize::try_from(status.available) == Ok(wanted))
    };
    let filling = await_condition(pools.clone(), name, full);
    tokio::time::timeout(PATIENCE, filling)
        .await
        .with_context(|| format!("pool {name} did not fill"))??;
    Ok(())
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
