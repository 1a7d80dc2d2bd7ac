//! `sandlot quickstart`: the ARL manual's walk on this machine, each step with its time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::{
    Api, Client,
    api::DynamicObject,
    runtime::{WatchStreamExt, watcher},
};
use sandlot_node::MissingImages;
use serde_json::Value;

use crate::{
    folders::Temporary,
    local::{Gateway, Local, Options},
    manifest::{self, Kinds},
};

const POOL: &str = include_str!("../../../examples/arl/warmpool.yaml");
const SANDBOX: &str = include_str!("../../../examples/arl/sandbox.yaml");
const TASK: &str = include_str!("../../../examples/arl/task.yaml");

/// How long any one step may take before the walk gives up and says where it stands.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts everything in a temporary folder, walks, and stops.
pub(crate) async fn run() -> Result<()> {
    println!("Sandlot quickstart: the ARL manual's walk on this machine");
    println!();
    let folder = Temporary::make()?;
    let started = Instant::now();
    let options = Options {
        folder: folder.path().to_owned(),
        in_memory: false,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        kubeconfig: folder.path().join("kubeconfig"),
        // The manual's image is not on a fresh machine; its own Python is.
        missing_images: MissingImages::Host,
        runtime: sandlot_node::Runtime::Own,
        egress: true,
        allow_privileged: false,
        controllers: true,
        gateway: Gateway::Off,
        snapshot_registry: None,
        robots: None,
    };
    let local = Local::start(&options).await?;
    print_step(
        "sandlot",
        "API, node and controllers are up",
        started.elapsed(),
    );
    let client = local.client();
    let walked = tokio::select! {
        walked = walk(&client) => walked,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let stopping = Instant::now();
    local.stop().await;
    println!();
    print_step("sandlot", "all stopped and removed", stopping.elapsed());
    walked
}

/// Applies pool, sandbox and task, and prints what the task printed.
async fn walk(client: &Client) -> Result<()> {
    let kinds = Kinds::of(client).await?;
    let pool = step(&kinds, POOL, "three warm pods", |pool| {
        count(pool, "ready")
            >= pool
                .pointer("/spec/replicas")
                .and_then(Value::as_i64)
                .unwrap_or(1)
    })
    .await?;
    let sandbox = step(
        &kinds,
        SANDBOX,
        "a sandbox, taken from the pool",
        |sandbox| text(sandbox, "phase") == "Ready",
    )
    .await?;
    let task = step(&kinds, TASK, "a task: write hello.py, run it", |task| {
        matches!(text(task, "state"), "Succeeded" | "Failed")
    })
    .await?;
    let _ = (pool, sandbox);
    println!();
    print!("{}", text(&task, "stdout"));
    eprint!("{}", text(&task, "stderr"));
    if text(&task, "state") != "Succeeded" {
        bail!(
            "the task ended as {}: {}",
            text(&task, "state"),
            task["status"]
        );
    }
    Ok(())
}

/// Applies one manifest and waits until what it describes is there.
async fn step(
    kinds: &Kinds,
    yaml: &str,
    what: &str,
    done: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut objects = manifest::parse(yaml)?;
    let object = objects.pop().context("the manifest is empty")?;
    let kind = object
        .types
        .as_ref()
        .map(|t| t.kind.clone())
        .unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let started = Instant::now();
    let api = kinds.apply(&object, "default").await?;
    let seen = tokio::time::timeout(PATIENCE, until(api.clone(), &name, done)).await;
    let Ok(state) = seen else {
        let now = api
            .get(&name)
            .await
            .map(|o| o.data["status"].to_string())
            .unwrap_or_else(|e| e.to_string());
        bail!(
            "{kind} {name} was not done after {} s; its status is {now}",
            PATIENCE.as_secs()
        );
    };
    let state = state?;
    print_step(&format!("{kind} {name}"), what, started.elapsed());
    Ok(state)
}

/// One line of the walk.
fn print_step(subject: &str, what: &str, took: Duration) {
    println!(
        "  {subject:<24} {what:<36} {:>9.1} ms",
        took.as_secs_f64() * 1e3
    );
}

/// The first state of an object that satisfies `done`, seen on a watch.
async fn until(
    api: Api<DynamicObject>,
    name: &str,
    done: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let states = watcher(api, config).applied_objects();
    let mut states = std::pin::pin!(states);
    while let Some(object) = states.try_next().await? {
        if done(&object.data) {
            return Ok(object.data);
        }
    }
    bail!("the watch on {name} ended")
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["status"][field].as_str().unwrap_or_default()
}

fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or_default()
}
