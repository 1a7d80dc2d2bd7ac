//! Pools, sandboxes and pods to measure with. A stand-in pod is one in which nothing runs: it is
//! bound to a node that is not there, and its status is written by the benchmark.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, WatchEvent, WatchParams},
    core::PartialObjectMeta,
    runtime::wait::await_condition,
};
use sandlot_api::arl::{Sandbox, SandboxSpec, WarmPool, WarmPoolStatus};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// How long anything may take before the measurement is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How many writes are under way at once.
const AT_ONCE: usize = 64;
/// How long to wait before a write that failed is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// What in a template makes stand-ins of its pods: no node has this name, so nobody but the
/// benchmark says how they are.
pub(super) fn on_no_node() -> Value {
    json!({"nodeName": "stand-in"})
}

/// The node that is not there: says of each of its pods, as soon as it hears of it, that it runs,
/// and ends those that are deleted.
pub(super) struct StandIns(JoinHandle<Result<()>>);

impl StandIns {
    /// Begins to, with a client of its own.
    pub(super) async fn begin(pods: Api<Pod>) -> Result<StandIns> {
        let bound = WatchParams::default().fields("spec.nodeName=stand-in");
        let events = pods.watch_metadata(&bound, "0").await?.boxed();
        Ok(StandIns(tokio::spawn(async move {
            let mut told = events
                .try_filter_map(|event| async move { Ok(due(event)) })
                .map_ok(move |(name, due)| {
                    let pods = pods.clone();
                    async move {
                        tend(pods, name, due).await;
                        Ok(())
                    }
                })
                .try_buffer_unordered(AT_ONCE)
                .boxed();
            while told.try_next().await?.is_some() {}
            bail!("the watch ended")
        })))
    }
}

/// What a node would do about a pod.
enum Due {
    Run,
    End,
}

fn due(event: WatchEvent<PartialObjectMeta<Pod>>) -> Option<(String, Due)> {
    let (pod, new) = match event {
        WatchEvent::Added(pod) => (pod, true),
        WatchEvent::Modified(pod) => (pod, false),
        _ => return None,
    };
    let due = match pod.metadata.deletion_timestamp {
        Some(_) => Due::End,
        None if new => Due::Run,
        None => return None,
    };
    Some((pod.metadata.name?, due))
}

/// Does it, and as a node would tries again.
async fn tend(pods: Api<Pod>, name: String, due: Due) {
    loop {
        let done = match due {
            Due::Run => {
                let patch = Patch::Merge(json!({"status": running()}));
                pods.patch_status(&name, &PatchParams::default(), &patch)
                    .await
                    .map(drop)
            }
            Due::End => {
                let now = DeleteParams::default().grace_period(0);
                pods.delete(&name, &now).await.map(drop)
            }
        };
        match done {
            Ok(()) => return,
            // One that has gone meanwhile needs nothing any more.
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(error) => {
                tracing::warn!(pod = name, %error, "a stand-in's status could not be written");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        self.0.abort();
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

/// Waits until a pool has as many idle pods as it should, all of them ready, and none beside them
/// but those that sandboxes have.
pub(super) async fn until_full(pools: &Api<WarmPool>, name: &str) -> Result<()> {
    until(pools, name, |_| true).await
}

/// The same once so many of its pods have been taken: what it says may be older than the last claim.
pub(super) async fn until_full_again(
    pools: &Api<WarmPool>,
    name: &str,
    taken: usize,
) -> Result<()> {
    until(pools, name, |status| status.allocated as usize == taken).await
}

async fn until(
    pools: &Api<WarmPool>,
    name: &str,
    wanted: impl Fn(&WarmPoolStatus) -> bool,
) -> Result<()> {
    let full = |pool: Option<&WarmPool>| {
        pool.is_some_and(|pool| {
            let replicas = pool.spec.replicas;
            let is_full =
                |s: &WarmPoolStatus| (s.ready, s.total - s.allocated) == (replicas, replicas);
            let status = pool.status.as_ref();
            status.is_some_and(|status| is_full(status) && wanted(status))
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
