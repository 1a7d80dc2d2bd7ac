//! `sandlot bench batch`: many sandboxes as one object, many objects at once, and tasks in them.

mod stage;

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use sandlot_api::opensandbox::{BatchSandbox, Pool, names};
use sandlot_decide::{
    Seniority,
    backoff::Backoff,
    pool::{self, Care, Failures, Health, Pool as Subject, Share, Sizing, Use},
};
use serde_json::{Value, json};

use super::{
    report::{Bar, Report, Samples},
    sight::Sight,
    subject::Machine,
};
use stage::{Stage, batch, object, until_available};

/// How long any one delivery may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often the batch of a hundred is delivered; the first ones warm connections and caches up.
const ROUNDS: usize = 12;
const WARM_UP: usize = 2;
/// How often the batch of a thousand is delivered, and the many batches of one.
const THOUSANDS: usize = 3;
const CROWDS: usize = 5;
/// Single batches made at once.
const SINGLES: usize = 128;
/// Who makes them.
const CLIENTS: usize = 64;
/// Real pods with an executor, and tasks in them.
const TASKS: usize = 100;

/// Delivers from stand-in pods, where only the control plane is measured; runs tasks in real ones.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("batches");
    decisions(&mut report);
    let (machine, _) = Machine::start(&[]).await?;
    hundred_by_hundred(&machine, &mut report).await?;
    a_thousand(&machine, &mut report).await?;
    singles(&machine, &mut report).await?;
    report.note("the pods of these pools are stand-ins: nothing runs in them, the benchmark writes their status");
    tasks(&machine, &mut report).await?;
    machine.stop().await?;
    Ok(report)
}

/// Decides about a hundred pools of a thousand pods each, half of them in use.
fn decisions(report: &mut Report) {
    let now = jiff::Timestamp::now();
    let pods: Vec<pool::Pod> = (0..1_000)
        .map(|number| pool::Pod {
            name: format!("pod-{number}").into(),
            made: Seniority {
                at: now,
                revision: number,
            },
            used: match number % 2 {
                0 => Use::Idle,
                _ => Use::Taken,
            },
            health: Health::Ready { since: now },
            current: number % 10 != 0,
            leaving: false,
            evict: false,
        })
        .collect();
    let subject = Subject {
        sizing: Sizing::Buffer {
            buffer_min: 100,
            buffer_max: 300,
            pool_min: 0,
            pool_max: 2_000,
        },
        care: Care {
            starting: Share::Percent(25),
            rolling: Share::Percent(25),
            replace: Backoff {
                first: Duration::from_secs(10),
                longest: Duration::from_secs(300),
            },
            steady: Duration::from_secs(60),
        },
        pods: &pods,
        creating: 3,
        wanted: 50,
        failures: &Failures::default(),
    };
    let mut samples = Samples::default();
    for _ in 0..20 {
        let started = Instant::now();
        for _ in 0..100 {
            std::hint::black_box(pool::plan(std::hint::black_box(&subject), now));
        }
        samples.add(started.elapsed());
    }
    report.latency(
        "scaling decisions for 100 pools of 1,000 pods, in all",
        &samples,
        Some(50.0),
        None,
    );
}

async fn hundred_by_hundred(machine: &Machine, report: &mut Report) -> Result<()> {
    let stage = Stage::open(machine).await?;
    let mut samples = Samples::default();
    let mut spent = 0.0;
    for round in 0..ROUNDS {
        let name = format!("hundred-{round}");
        stage.fill(&name, 100).await?;
        let earlier = stage.requests().await?;
        let took = stage.deliver(&name, &name, 100).await?;
        spent += stage.writes_since(&earlier).await?;
        if round >= WARM_UP {
            samples.add(took);
        }
        stage.clear(&name, std::slice::from_ref(&name)).await?;
    }
    report.latency(
        "100 sandboxes as one batch, create → all addresses seen by another watcher",
        &samples,
        Some(50.0),
        None,
    );
    report.number(
        "API writes to the batch, its create included",
        spent / ROUNDS as f64,
        "",
        Some(Bar::AtMost(3.0)),
    );
    Ok(())
}

async fn a_thousand(machine: &Machine, report: &mut Report) -> Result<()> {
    let stage = Stage::open(machine).await?;
    let mut samples = Samples::default();
    let mut spent = 0.0;
    for round in 0..THOUSANDS {
        let name = format!("thousand-{round}");
        stage.fill(&name, 1_000).await?;
        let earlier = stage.requests().await?;
        samples.add(stage.deliver(&name, &name, 1_000).await?);
        spent += stage.writes_since(&earlier).await?;
        stage.clear(&name, std::slice::from_ref(&name)).await?;
    }
    report.latency("1,000 sandboxes as one batch", &samples, Some(400.0), None);
    report.number(
        "API writes to the batch of 1,000, its create included",
        spent / THOUSANDS as f64,
        "",
        Some(Bar::AtMost(3.0)),
    );
    Ok(())
}

async fn singles(machine: &Machine, report: &mut Report) -> Result<()> {
    let stage = Stage::open(machine).await?;
    let mut samples = Samples::default();
    for round in 0..CROWDS {
        let pool = format!("singles-{round}");
        stage.fill(&pool, SINGLES).await?;
        let names: Vec<String> = (0..SINGLES)
            .map(|n| format!("single-{round}-{n}"))
            .collect();
        let started = Instant::now();
        stream::iter(&names)
            .map(|name| stage.create(name.clone(), batch(&pool, 1)))
            .buffer_unordered(CLIENTS)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        let mut last = started;
        for name in &names {
            last = last.max(stage.sight.of(name, PATIENCE).await?);
        }
        samples.add(last - started);
        stage.clear(&pool, &names).await?;
    }
    report.latency(
        "128 batches of one sandbox made at once, until the last is ready",
        &samples,
        Some(300.0),
        None,
    );
    Ok(())
}

/// A hundred different tasks in a hundred real pods.
async fn tasks(machine: &Machine, report: &mut Report) -> Result<()> {
    let client = machine.client().await?;
    let pools: Api<Pool> = Api::namespaced(client.clone(), "default");
    let batches: Api<BatchSandbox> = Api::namespaced(client.clone(), "default");
    let template = json!({ "spec": {
        "shareProcessNamespace": true, "terminationGracePeriodSeconds": 0,
        "containers": [
            { "name": "sandbox-container", "image": "host", "command": ["sleep", "3600"] },
            { "name": "task-executor", "image": "task-executor",
              "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } } } ] } });
    let made: Pool = serde_json::from_value(json!({
        "apiVersion": names::API_VERSION, "kind": "Pool", "metadata": { "name": "tasks" },
        "spec": { "template": template, "scaleStrategy": { "maxUnavailable": "25%" },
            "capacitySpec": { "bufferMin": 0, "bufferMax": TASKS, "poolMin": TASKS, "poolMax": TASKS } } }))?;
    pools.create(&PostParams::default(), &made).await?;
    until_available(&pools, "tasks", TASKS).await?;
    let api = Api::namespaced(machine.client().await?, "default");
    let done = Sight::open(api, |batch: &BatchSandbox| {
        batch
            .status
            .as_ref()
            .is_some_and(|status| usize::try_from(status.task_succeed) == Ok(TASKS))
    })
    .await?;
    let patches: Vec<Value> = (0..TASKS)
        .map(|n| json!({ "spec": { "process": { "command": ["echo", format!("task {n}")] } } }))
        .collect();
    let mut spec = batch("tasks", TASKS);
    spec["taskTemplate"] = json!({ "spec": { "process": { "command": ["false"] } } });
    spec["shardTaskPatches"] = json!(patches);
    let started = Instant::now();
    batches
        .create(&PostParams::default(), &object("tasks", spec)?)
        .await?;
    let took = done.of("tasks", PATIENCE).await? - started;
    let mut samples = Samples::default();
    samples.add(took);
    report.latency(
        "100 different tasks in 100 real pods, create → all succeeded",
        &samples,
        Some(1_500.0),
        None,
    );
    batches.delete("tasks", &DeleteParams::default()).await?;
    pools.delete("tasks", &DeleteParams::default()).await?;
    Ok(())
}
