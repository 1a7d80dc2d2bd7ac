//! `sandlot bench api`: the embedded Kubernetes API, over HTTPS.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::Barrier, task::JoinSet};

use super::{
    report::{Bar, Report, Samples},
    subject::Machine,
    wire::Wire,
};

/// Writers at once where a promise says "64 clients".
const WRITERS: usize = 64;
/// Watchers where a promise says so.
const WATCHERS: usize = 100;

/// Every promise of the API, on one machine, in one run.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("embedded Kubernetes API");
    let (machine, cold) = Machine::start(&[]).await?;
    report.number(
        "start on an empty folder",
        cold.as_secs_f64() * 1e3,
        "ms",
        Some(Bar::AtMost(1000.0)),
    );
    report.number(
        "resident after the start",
        machine.resident_mib()?,
        "MiB",
        None,
    );
    let client = machine.client().await?;

    report.latency(
        "durable write, one client",
        &one_writer(machine.config().await?).await?,
        Some(1.0),
        None,
    );
    report.latency(
        "the same through a client library",
        &one_writer_with(&client).await?,
        None,
        None,
    );
    let rate = many_writers(&client).await?;
    report.number(
        format!("durable writes, {WRITERS} clients"),
        rate,
        "/s",
        Some(Bar::AtLeast(3000.0)),
    );
    report.latency(
        &format!("watch delivery to {WATCHERS} watchers"),
        &deliveries(&machine).await?,
        None,
        Some(5.0),
    );
    machine.stop().await?;

    let (machine, _) = Machine::start(&[]).await?;
    let client = machine.client().await?;
    fill(&client, "small", 10_000, 100).await?;
    report.latency(
        "list of 10,000 small objects",
        &lists(&client, "small").await?,
        Some(150.0),
        None,
    );
    machine.stop().await?;

    let (machine, _) = Machine::start(&[]).await?;
    let client = machine.client().await?;
    fill(&client, "sized", 10_000, 2 * 1024).await?;
    let resident = machine.resident_mib()?;
    report.number(
        "resident with 10,000 objects of 2 KiB",
        resident,
        "MiB",
        Some(Bar::AtMost(100.0)),
    );
    fill(&client, "more", 90_000, 100).await?;
    drop(client);
    let (machine, again) = machine.restart(&[]).await?;
    report.number(
        "restart with 100,000 objects",
        again.as_secs_f64() * 1e3,
        "ms",
        Some(Bar::AtMost(3000.0)),
    );
    machine.stop().await?;
    report.note("single writes and deliveries: over bare HTTPS connections, from one thread of another process");
    report.note("start and restart: from spawning the process to /readyz answering over HTTPS");
    Ok(report)
}

fn config_map(name: String, payload: String) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("payload".to_owned(), payload)])),
        ..ConfigMap::default()
    }
}

/// The first so many writes warm the connection and the allocator up.
const WARM_UP: usize = 100;
const SINGLE_WRITES: usize = 1_000;

/// One after the other over one connection, from a thread that does nothing else.
async fn one_writer(config: Config) -> Result<Samples> {
    alone(async move {
        let mut wire = Wire::open(&config).await?;
        let mut samples = Samples::default();
        for n in 0..WARM_UP + SINGLE_WRITES {
            let object = config_map(format!("single-{n}"), "x".repeat(100));
            let object = serde_json::to_vec(&object)?;
            let started = Instant::now();
            wire.create("/api/v1/namespaces/default/configmaps", &object)
                .await?;
            if n >= WARM_UP {
                samples.add(started.elapsed());
            }
        }
        Ok(samples)
    })
    .await
}

/// What somebody sees who writes with `kube`.
async fn one_writer_with(client: &Client) -> Result<Samples> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mut samples = Samples::default();
    for n in 0..WARM_UP + SINGLE_WRITES {
        let object = config_map(format!("with-library-{n}"), "x".repeat(100));
        let started = Instant::now();
        api.create(&PostParams::default(), &object).await?;
        if n >= WARM_UP {
            samples.add(started.elapsed());
        }
    }
    Ok(samples)
}

async fn many_writers(client: &Client) -> Result<f64> {
    const SPAN: Duration = Duration::from_secs(5);
    let start = Arc::new(Barrier::new(WRITERS + 1));
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        let (start, stop) = (Arc::clone(&start), Arc::clone(&stop));
        writers.spawn(async move {
            start.wait().await;
            let mut written = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let object = config_map(format!("many-{writer}-{written}"), "x".repeat(100));
                api.create(&PostParams::default(), &object).await?;
                written += 1;
            }
            Ok::<_, kube::Error>(written)
        });
    }
    start.wait().await;
    let started = Instant::now();
    tokio::time::sleep(SPAN).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    while let Some(one) = writers.join_next().await {
        written += one??;
    }
    Ok(written as f64 / started.elapsed().as_secs_f64())
}

/// From the moment a write is sent to the moment each watcher has it.
async fn deliveries(machine: &Machine) -> Result<Samples> {
    let namespaces: Api<Namespace> = Api::all(machine.client().await?);
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some("watched".to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    let config = machine.config().await?;
    alone(async move { watch_together(&config).await }).await
}

/// Everybody who watches, and who writes what they wait for.
async fn watch_together(config: &Config) -> Result<Samples> {
    const WRITES: usize = 200;
    let origin = Instant::now();
    let ready = Arc::new(Barrier::new(WATCHERS + 1));
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (config, ready) = (config.clone(), Arc::clone(&ready));
        watchers.spawn(async move {
            let path = "/api/v1/namespaces/watched/configmaps?watch=1";
            let mut watcher = Wire::open(&config).await?.watch(path).await?;
            ready.wait().await;
            let mut samples = Samples::default();
            while samples.count() < WRITES {
                if let Some(sent) = sent_at(watcher.line().await?) {
                    samples.add(origin.elapsed().saturating_sub(sent));
                }
            }
            anyhow::Ok(samples)
        });
    }
    ready.wait().await;
    let mut wire = Wire::open(config).await?;
    for n in 0..WRITES {
        let sent = origin.elapsed().as_nanos().to_string();
        let object = serde_json::to_vec(&config_map(format!("event-{n}"), sent))?;
        wire.create("/api/v1/namespaces/watched/configmaps", &object)
            .await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut all = Samples::default();
    while let Some(one) = watchers.join_next().await {
        all.extend(one??);
    }
    Ok(all)
}

/// Does something on a thread of its own, so that who measures takes as little of the processors
/// as can be.
async fn alone<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::spawn_blocking(move || runtime.block_on(work)).await?
}

/// When the object in an event was sent: its payload is that moment.
fn sent_at(event: &str) -> Option<Duration> {
    let payload = event.split_once("\"payload\":\"")?.1;
    let sent = payload.split_once('"')?.0.parse().ok()?;
    Some(Duration::from_nanos(sent))
}

/// Creates so many objects with payloads of this size.
async fn fill(client: &Client, prefix: &str, count: usize, size: usize) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    stream::iter(0..count)
        .map(|n| {
            let api = api.clone();
            let object = config_map(format!("{prefix}-{n}"), "x".repeat(size));
            async move { api.create(&PostParams::default(), &object).await }
        })
        .buffer_unordered(WRITERS)
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("filling the API")
}

/// Whole lists, as bytes off the wire.
async fn lists(client: &Client, prefix: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..10 {
        let request =
            http::Request::get("/api/v1/namespaces/default/configmaps").body(Vec::new())?;
        let started = Instant::now();
        let text = client.request_text(request).await?;
        samples.add(started.elapsed());
        let wanted = format!("\"{prefix}-9999\"");
        anyhow::ensure!(text.contains(&wanted), "the list lacks {wanted}");
    }
    Ok(samples)
}
