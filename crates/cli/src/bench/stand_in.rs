//! Pools, sandboxes and pods to measure with. A stand-in pod is one in which nothing runs: it is
//! bound to a node that is not there, and its status is written by the benchmark.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, ObjectMeta, Patch, PatchParams},
    runtime::wait::await_condition,
};
use sandlot_api::arl::{Sandbox, SandboxSpec, WarmPool};
use serde_json::{Value, json};

/// How long anything may take before the measurement is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How many writes are under way at once.
const AT_ONCE: usize = 64;

/// What in a template makes stand-ins of its pods: no node has this name, so nobody but the
/// benchmark says how they are.
pub(super) fn on_no_node() -> Value {
    json!({"nodeName": "stand-in"})
}

/// Writes Running and Ready into every pod of a pool as a node would, until there are so many.
pub(super) async fn stand_in(pods: &Api<Pod>, pool: &str, wanted: usize) -> Result<()> {
    let labels = ListParams::default().labels(&format!("arl.infra.io/warmpool={pool}"));
    let started = Instant::now();
    loop {
        let list = pods.list(&labels).await?.items;
        let fresh: Vec<String> = list
            .iter()
            .filter(|pod| !is_running(pod))
            .filter_map(|p| p.metadata.name.clone())
            .collect();
        stream::iter(fresh)
            .map(|name| async move {
                let patch = Patch::Merge(json!({"status": running()}));
                pods.patch_status(&name, &PatchParams::default(), &patch)
                    .await
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        if list.len() >= wanted && list.iter().all(is_running) {
            return Ok(());
        }
        anyhow::ensure!(
            started.elapsed() < PATIENCE,
            "the pool made {} of {wanted} pods",
            list.len()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The status of a pod that runs; nobody answers at its address.
fn running() -> Value {
    let now = jiff::Timestamp::now().to_string();
    json!({
        "phase": "Running", "podIP": "192.0.2.1", "startTime": now,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        "containerStatuses": [{"name": "executor", "ready": true, "restartCount": 0, "image": "host",
            "imageID": "", "started": true, "state": {"running": {"startedAt": now}}}],
    })
}

fn is_running(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Running")
}

/// Waits until every pod of a pool is idle and ready again.
pub(super) async fn until_full(pools: &Api<WarmPool>, name: &str) -> Result<()> {
    let full = |pool: Option<&WarmPool>| {
        pool.is_some_and(|pool| {
            let wanted = pool.spec.replicas;
            let status = pool.status.as_ref();
            status.is_some_and(|s| (s.ready, s.allocated, s.total) == (wanted, 0, wanted))
        })
    };
    let waiting = await_condition(pools.clone(), name, full);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .with_context(|| format!("pool {name} did not fill"))??;
    Ok(())
}

/// A pool on the `host` image.
pub(super) fn pool(name: &str, replicas: usize, more: Value) -> Result<WarmPool> {
    let mut spec = json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "executor", "image": "host", "command": ["sleep", "infinity"],
            "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}]}],
        "volumes": [{"name": "workspace", "emptyDir": {}}],
    });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    Ok(serde_json::from_value(json!({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "WarmPool",
        "metadata": {"name": name}, "spec": {"replicas": replicas, "template": {"spec": spec}},
    }))?)
}

/// A sandbox from a pool, kept until it is deleted.
pub(super) fn sandbox(name: &str, pool: &str) -> Sandbox {
    Sandbox {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: SandboxSpec {
            pool_ref: pool.to_owned(),
            keep_alive: Some(true),
            ..SandboxSpec::default()
        },
        status: None,
    }
}
