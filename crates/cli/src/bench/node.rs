//! `sandlot bench node`: pods on the embedded node, seen from outside.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, DeleteParams, PostParams},
};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::{
    report::{Bar, Report, Samples},
    sight::Sight,
    subject::Machine,
};

/// How long any one pod may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every promise of the node, on one machine, in one run.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("embedded node");
    let (machine, _) = Machine::start(&[]).await?;
    let pods: Api<Pod> = Api::namespaced(machine.client().await?, "default");
    let sight = Sight::open(
        Api::namespaced(machine.client().await?, "default"),
        is_ready,
    )
    .await?;
    // The first pod unpacks the image.
    start_one(&pods, &sight, "first").await?;

    let mut cold = Samples::default();
    for n in 0..50 {
        cold.add(start_one(&pods, &sight, &format!("cold-{n}")).await?);
    }
    report.latency("cold pod, create → Ready", &cold, Some(60.0), Some(200.0));

    report.latency(
        "exec of `true` through the API",
        &execs(&pods).await?,
        Some(10.0),
        None,
    );

    let before = resident_of_all(&machine)?;
    let started = Instant::now();
    let names: Vec<String> = (0..100).map(|n| format!("many-{n}")).collect();
    try_join_all(names.iter().map(|name| start_one(&pods, &sight, name))).await?;
    report.number(
        "100 pods at once, all Ready",
        started.elapsed().as_secs_f64(),
        "s",
        Some(Bar::AtMost(6.0)),
    );
    let added = (resident_of_all(&machine)? - before) / 100.0;
    report.number(
        "what Sandlot adds to an idle pod",
        added,
        "MiB",
        Some(Bar::AtMost(6.0)),
    );

    let removing = Instant::now();
    pods.delete_collection(
        &DeleteParams::default().grace_period(0),
        &Default::default(),
    )
    .await?;
    while !pods
        .list_metadata(&Default::default())
        .await?
        .items
        .is_empty()
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report.number(
        "151 pods deleted",
        removing.elapsed().as_secs_f64(),
        "s",
        None,
    );
    report.note("the image is `host`; the pods run `sleep infinity`");
    report.note(
        "memory: the growth of every process of Sandlot's own, the pods' own processes left out",
    );
    machine.stop().await?;
    Ok(report)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

async fn start_one(pods: &Api<Pod>, sight: &Sight, name: &str) -> Result<Duration> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "host", "command": ["sleep", "infinity"]}]},
    }))?;
    let started = Instant::now();
    pods.create(&PostParams::default(), &pod).await?;
    let ready = sight.of(name, PATIENCE).await?;
    Ok(ready - started)
}

async fn execs(pods: &Api<Pod>) -> Result<Samples> {
    let mut samples = Samples::default();
    let parameters = AttachParams::default()
        .stdin(false)
        .stdout(true)
        .stderr(false);
    for n in 0..220 {
        let started = Instant::now();
        let mut process = pods.exec("first", ["true"], &parameters).await?;
        let ended = process.take_status();
        if let Some(mut out) = process.stdout() {
            out.read_to_end(&mut Vec::new()).await?;
        }
        if let Some(ended) = ended {
            ended.await;
        }
        if n >= 20 {
            samples.add(started.elapsed());
        }
    }
    Ok(samples)
}

/// Memory of `sandlot up` and of all that it started to keep containers, but not of what runs
/// inside them: processes whose program is ours.
fn resident_of_all(machine: &Machine) -> Result<f64> {
    let ours = fs::read_link("/proc/self/exe")?;
    let mut kib = 0.0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let path = entry.path();
        let is_process = entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|b| b.is_ascii_digit());
        let under_test = entry.file_name().to_string_lossy() != std::process::id().to_string();
        if is_process && under_test && fs::read_link(path.join("exe")).is_ok_and(|exe| exe == ours)
        {
            kib += proportional_kib(&path).unwrap_or_default();
        }
    }
    anyhow::ensure!(
        kib > 0.0,
        "no process of Sandlot's was found beside {}",
        machine.folder().display()
    );
    Ok(kib / 1024.0)
}

/// Pages that processes share count once between them.
fn proportional_kib(process: &std::path::Path) -> Result<f64> {
    let rollup = fs::read_to_string(process.join("smaps_rollup"))?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .context("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
