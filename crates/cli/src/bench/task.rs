//! `sandlot bench task`: trivial tasks in sandboxes that are ready.

use std::time::Instant;

use anyhow::Result;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use sandlot_api::arl::{
    Sandbox, SandboxPhase, Step, StepType, Task, TaskSpec, TaskState, WarmPool,
};
use serde_json::json;

use super::{
    crowd::Crowd,
    report::{Bar, Report, Samples},
    sight::{Sight, place_of},
    stand_in::{PATIENCE, pool, sandbox},
    subject::Machine,
    wire::Wire,
    writes,
};

/// Sandboxes that run tasks side by side.
const SANDBOXES: usize = 50;
/// Tasks for each of them.
const EACH: usize = 20;

/// Tasks one at a time, then many side by side.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("tasks");
    let (machine, _) = Machine::start(&[]).await?;
    let client = machine.client().await?;
    let pools: Api<WarmPool> = Api::namespaced(client.clone(), "default");
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), "default");
    pools
        .create(&PostParams::default(), &pool("pool", 5, json!({}))?)
        .await?;
    let ready = Sight::open(
        Api::namespaced(machine.client().await?, "default"),
        is_ready,
    )
    .await?;
    for n in 0..SANDBOXES {
        sandboxes
            .create(
                &PostParams::default(),
                &sandbox(&format!("box-{n}"), "pool"),
            )
            .await?;
    }
    for n in 0..SANDBOXES {
        ready.of(&format!("box-{n}"), PATIENCE).await?;
    }
    drop(ready);
    let config = machine.config().await?;
    let done = Sight::bare(&config, succeeded).await?;
    let mut wire = Wire::open(&config).await?;

    let mut samples = Samples::default();
    let mut before = writes::count(&client).await?;
    for n in 0..220 {
        if n == 20 {
            before = writes::count(&client).await?;
        }
        let name = format!("one-{n}");
        let task = serde_json::to_vec(&run_true(&name, "box-0"))?;
        let started = Instant::now();
        wire.create(&place_of::<Task>(), &task).await?;
        let took = done.of(&name, PATIENCE).await? - started;
        if n >= 20 {
            samples.add(took);
        }
    }
    report.latency(
        "task `true`, create → Succeeded seen by another watcher",
        &samples,
        Some(6.0),
        Some(25.0),
    );
    let spent = writes::count(&client).await?.since(
        &before,
        &["tasks", "sandboxes"],
        &["patch", "update", "put"],
    );
    report.number(
        "API writes a task costs after its create",
        spent / samples.count() as f64,
        "",
        Some(Bar::AtMost(2.0)),
    );

    let clients = Crowd::open(&config).await?;
    let before = writes::count(&client).await?;
    let started = Instant::now();
    let made = clients
        .make(SANDBOXES * EACH, |n| {
            run_true(&format!("many-{n}"), &format!("box-{}", n % SANDBOXES))
        })
        .await?;
    let mut last = started;
    for (name, _) in made {
        last = last.max(done.of(&name, PATIENCE).await?);
    }
    let spent = writes::count(&client).await?.since(
        &before,
        &["tasks", "sandboxes"],
        &["patch", "update", "put"],
    );
    let rate = (SANDBOXES * EACH) as f64 / (last - started).as_secs_f64();
    report.number(
        format!("tasks over {SANDBOXES} sandboxes"),
        rate,
        "/s",
        Some(Bar::AtLeast(500.0)),
    );
    report.number(
        "API writes each of them costs after its create",
        spent / (SANDBOXES * EACH) as f64,
        "",
        Some(Bar::AtMost(2.0)),
    );
    report.note("tasks are made and watched over bare HTTPS connections of another process");
    report.note("the sandboxes are real pods on the image `host`; tasks run through their agents");
    machine.stop().await?;
    Ok(report)
}

fn is_ready(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().and_then(|status| status.phase) == Some(SandboxPhase::Ready)
}

fn succeeded(task: &Task) -> bool {
    task.status.as_ref().and_then(|status| status.state) == Some(TaskState::Succeeded)
}

/// A task that runs `true`.
pub(super) fn run_true(name: &str, sandbox: &str) -> Task {
    let step = Step {
        name: "run".to_owned(),
        kind: StepType::Command,
        command: Some(vec!["true".to_owned()]),
        ..Step::default()
    };
    Task {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: TaskSpec {
            sandbox_ref: sandbox.to_owned(),
            steps: vec![step],
            ..TaskSpec::default()
        },
        status: None,
    }
}
