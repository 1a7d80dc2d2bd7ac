//! `sandlot bench claim`: taking sandboxes from warm pools.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use sandlot_api::arl::{Sandbox, SandboxPhase, SandboxSpec, WarmPool};
use serde_json::{Value, json};

use super::{
    report::{Bar, Report, Samples},
    sight::Sight,
    subject::Machine,
    writes,
};

/// How long any one claim may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pods of the pool from which one sandbox at a time is claimed.
const REAL: usize = 20;
/// Stand-in pods of the big pool, and claims from it.
const STAND_INS: usize = 1_000;
/// Who claims at once from the big pool.
const CLIENTS: usize = 64;

/// Claims one at a time from real pods, then a thousand at once from stand-ins.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("claims");
    let (machine, _) = Machine::start(&[]).await?;
    one_at_a_time(&machine, &mut report).await?;
    a_thousand(&machine, &mut report).await?;
    report.number(
        "resident after it all",
        machine.resident_mib()?,
        "MiB",
        None,
    );
    machine.stop().await?;
    Ok(report)
}

async fn one_at_a_time(machine: &Machine, report: &mut Report) -> Result<()> {
    let client = machine.client().await?;
    let pools: Api<WarmPool> = Api::namespaced(client.clone(), "default");
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), "default");
    let warm = Sight::open(Api::namespaced(machine.client().await?, "default"), is_warm).await?;
    pools
        .create(&PostParams::default(), &pool("real", REAL, json!({}))?)
        .await?;
    warm.of("real", PATIENCE)
        .await
        .context("the pool of real pods")?;
    let sight = Sight::open(
        Api::namespaced(machine.client().await?, "default"),
        is_ready,
    )
    .await?;
    let mut samples = Samples::default();
    for n in 0..120 {
        let name = format!("one-{n}");
        let started = Instant::now();
        sandboxes
            .create(&PostParams::default(), &sandbox(&name, "real"))
            .await?;
        let took = sight.of(&name, PATIENCE).await? - started;
        // The first claims warm connections and caches up.
        if n >= 20 {
            samples.add(took);
        }
        sandboxes.delete(&name, &DeleteParams::default()).await?;
        // A claim is measured on a pool that has pods, not on how fast pods start.
        until_warm(&pools, "real", REAL / 2).await?;
    }
    report.latency(
        "claim from real pods, create → Ready seen by another watcher",
        &samples,
        Some(2.0),
        Some(10.0),
    );
    pools.delete("real", &DeleteParams::default()).await?;
    Ok(())
}

async fn a_thousand(machine: &Machine, report: &mut Report) -> Result<()> {
    let client = machine.client().await?;
    let pools: Api<WarmPool> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), "default");
    // No node has this name, so nobody but the benchmark says how these pods are.
    pools
        .create(
            &PostParams::default(),
            &pool("many", STAND_INS, json!({"nodeName": "stand-in"}))?,
        )
        .await?;
    stand_in(&pods).await?;
    until_warm(&pools, "many", STAND_INS).await?;
    let sight = Sight::open(
        Api::namespaced(machine.client().await?, "default"),
        is_ready,
    )
    .await?;
    let before = writes::count(&client).await?;
    let started = Instant::now();
    stream::iter(0..STAND_INS)
        .map(|n| {
            let sandboxes = sandboxes.clone();
            async move {
                sandboxes
                    .create(
                        &PostParams::default(),
                        &sandbox(&format!("many-{n}"), "many"),
                    )
                    .await
            }
        })
        .buffer_unordered(CLIENTS)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    let mut last = started;
    for n in 0..STAND_INS {
        last = last.max(sight.of(&format!("many-{n}"), PATIENCE).await?);
    }
    let rate = STAND_INS as f64 / (last - started).as_secs_f64();
    report.number(
        format!("{STAND_INS} claims by {CLIENTS} clients"),
        rate,
        "/s",
        Some(Bar::AtLeast(1000.0)),
    );
    let spent =
        writes::count(&client)
            .await?
            .since(&before, &["sandboxes", "pods"], &["patch", "update"]);
    report.number(
        "API writes a claim costs after its create",
        spent / STAND_INS as f64,
        "",
        Some(Bar::AtMost(3.0)),
    );
    report.note(
        "the thousand pods are stand-ins: nothing runs in them, the benchmark writes their status",
    );
    Ok(())
}

/// Writes Running and Ready into every pod of the big pool, as a node would.
async fn stand_in(pods: &Api<Pod>) -> Result<()> {
    let labels = ListParams::default().labels("arl.infra.io/warmpool=many");
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
                let now = jiff::Timestamp::now().to_string();
                let status = json!({"status": {
                    "phase": "Running", "podIP": "192.0.2.1", "startTime": now,
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
                    "containerStatuses": [{"name": "executor", "ready": true, "restartCount": 0, "image": "host",
                        "imageID": "", "started": true, "state": {"running": {"startedAt": now}}}],
                }});
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await
            })
            .buffer_unordered(CLIENTS)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        if list.len() >= STAND_INS && list.iter().all(is_running) {
            return Ok(());
        }
        anyhow::ensure!(
            started.elapsed() < PATIENCE,
            "the pool made {} of {STAND_INS} pods",
            list.len()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_running(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        == Some("Running")
}

fn is_ready(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().and_then(|status| status.phase) == Some(SandboxPhase::Ready)
}

fn is_warm(pool: &WarmPool) -> bool {
    pool.status
        .as_ref()
        .is_some_and(|status| status.ready >= pool.spec.replicas)
}

async fn until_warm(pools: &Api<WarmPool>, name: &str, wanted: usize) -> Result<()> {
    let started = Instant::now();
    loop {
        let ready = pools
            .get(name)
            .await?
            .status
            .map_or(0, |status| status.ready);
        if usize::try_from(ready).is_ok_and(|ready| ready >= wanted) {
            return Ok(());
        }
        anyhow::ensure!(
            started.elapsed() < PATIENCE,
            "pool {name} has {ready} of {wanted} warm pods"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
