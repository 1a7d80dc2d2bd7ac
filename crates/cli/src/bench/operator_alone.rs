//! The operator in a process of its own, with ten thousand objects to know of.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use sandlot_api::arl::{Sandbox, SandboxPhase, Task, WarmPool};
use serde_json::json;
use tokio::process::{Child, Command};

use super::{
    report::{Bar, Report},
    sight::Sight,
    stand_in::{PATIENCE, StandIns, on_no_node, pool, sandbox, until_full},
    subject::{Machine, resident_mib},
    task::run_true,
    writes,
};

/// Sandboxes, each with its pod.
const SANDBOXES: usize = 3_000;
/// Pods that wait for a sandbox.
const IDLE: usize = 1_000;
/// Tasks that are over.
const TASKS: usize = 3_000;
/// How many writes are under way at once.
const AT_ONCE: usize = 64;

/// Measures an operator that has made all this, and one that finds it.
pub(super) async fn measure(report: &mut Report) -> Result<()> {
    let (machine, _) = Machine::start(&["--no-controllers", "--ephemeral"]).await?;
    let operator = Operator::start(&machine).await?;
    fill(&machine).await?;
    report.number(
        "operator alone, resident after making 4,000 pods and 3,000 claims",
        operator.resident_mib()?,
        "MiB",
        None,
    );
    operator.stop().await?;
    finished_tasks(&machine).await?;
    let operator = Operator::start(&machine).await?;
    at_rest(&machine).await?;
    report.number(
        "operator alone, resident with 10,000 objects",
        operator.resident_mib()?,
        "MiB",
        Some(Bar::AtMost(60.0)),
    );
    operator.stop().await?;
    report.note("the operator's 10,000 objects are 4,000 stand-in pods, 3,000 sandboxes and 3,000 finished tasks");
    machine.stop().await
}

/// Waits until the operator has written all that it has to say of what it found.
async fn at_rest(machine: &Machine) -> Result<()> {
    let client = machine.client().await?;
    let started = Instant::now();
    let mut before = writes::count(&client).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = writes::count(&client).await?;
        if now.since(
            &before,
            &["sandboxes", "warmpools", "pods", "tasks"],
            &["patch"],
        ) == 0.0
        {
            return Ok(());
        }
        anyhow::ensure!(
            started.elapsed() < PATIENCE,
            "the operator does not come to rest"
        );
        before = now;
    }
}

async fn fill(machine: &Machine) -> Result<()> {
    let client = machine.client().await?;
    let pools: Api<WarmPool> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), "default");
    let idle = pool("many", IDLE, on_no_node())?;
    pools.create(&PostParams::default(), &idle).await?;
    let is_ready = |sandbox: &Sandbox| {
        sandbox.status.as_ref().and_then(|status| status.phase) == Some(SandboxPhase::Ready)
    };
    let ready = Sight::open(sandboxes.clone(), is_ready).await?;
    let _stand_ins = StandIns::begin(pods).await?;
    stream::iter(0..SANDBOXES)
        .map(|n| {
            let (sandboxes, sandbox) = (&sandboxes, sandbox(&format!("box-{n}"), "many"));
            async move { sandboxes.create(&PostParams::default(), &sandbox).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    for n in 0..SANDBOXES {
        ready.of(&format!("box-{n}"), PATIENCE).await?;
    }
    // The pool makes pods for those who wait, beside those it keeps.
    until_full(&pools, "many").await
}

async fn finished_tasks(machine: &Machine) -> Result<()> {
    let tasks: Api<Task> = Api::namespaced(machine.client().await?, "default");
    stream::iter(0..TASKS)
        .map(|n| {
            let tasks = &tasks;
            async move {
                let name = format!("task-{n}");
                let task = run_true(&name, &format!("box-{n}"));
                tasks.create(&PostParams::default(), &task).await?;
                let now = jiff::Timestamp::now().to_string();
                let status = json!({"status": {"state": "Succeeded", "exitCode": 0, "stdout": "hello\n",
                    "startTime": now, "completionTime": now}});
                tasks
                    .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                    .await
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

/// A `sandlot operator` on a machine that has no controllers of its own.
struct Operator(Child);

impl Operator {
    async fn start(machine: &Machine) -> Result<Operator> {
        let probes = free_port()?;
        let log = std::fs::File::create(machine.folder().join("operator.log"))?;
        let process = Command::new(std::env::current_exe()?)
            .args(["operator", "--install-crds", "--kubeconfig"])
            .arg(machine.folder().join("kubeconfig"))
            .env("PROBE_ADDR", format!("127.0.0.1:{probes}"))
            .env("METRICS_ADDR", "0")
            .env("POD_NAMESPACE", "default")
            .env("POOL_MAX_STARTING", "10000")
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let operator = Operator(process);
        operator.ready(machine, probes).await?;
        Ok(operator)
    }

    async fn ready(&self, machine: &Machine, probes: u16) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if says_ready(probes).await.unwrap_or(false) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = std::fs::read_to_string(machine.folder().join("operator.log"));
        bail!("the operator was not ready:\n{}", log.unwrap_or_default())
    }

    fn resident_mib(&self) -> Result<f64> {
        resident_mib(self.0.id().context("the operator has ended")?)
    }

    async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.0.id() {
            Command::new("kill")
                .args(["-INT", &pid.to_string()])
                .status()
                .await?;
        }
        tokio::time::timeout(PATIENCE, self.0.wait())
            .await
            .context("the operator did not stop")??;
        Ok(())
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Asks `/readyz` in so many words: one line is all there is to it.
async fn says_ready(port: u16) -> Result<bool> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer
        .lines()
        .next()
        .is_some_and(|line| line.contains(" 200 ")))
}
