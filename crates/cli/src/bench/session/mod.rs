//! `sandlot bench session`: sessions over REST, as a client sees them. The gateway is a process
//! of its own beside the cluster, so that what it takes is its alone.

mod gateway;
mod rest;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use sandlot_api::arl::WarmPool;

use super::{
    report::{Bar, Report, Samples},
    subject::Machine,
};
use gateway::Gateway;
use rest::Rest;

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pods that are kept warm.
const WARM: i32 = 4;
/// Sessions made one after the other.
const SESSIONS: usize = 50;
/// Trivial executions that count, after some that warm caches up.
const EXECUTIONS: usize = 500;
const WARM_UP: usize = 50;
/// Interpreters started in a session, and beside it in turn.
const INTERPRETERS: usize = 50;
/// Python that does nothing.
const TRIVIAL: &str = "def handler(event):\n    pass";
/// How long a client thinks between two pieces of code.
const THOUGHT: Duration = Duration::from_millis(200);
/// Sessions in use at the same time, and executions in each.
const CROWD: (usize, usize) = (50, 10);
/// The large file.
const LARGE: u64 = 1 << 30;

/// Sessions, trivial code, a crowd, and a large file.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("sessions over REST");
    let (machine, _) = Machine::start(&["--missing-images", "host", "--no-gateway"]).await?;
    let gateway = Gateway::start(machine.folder(), WARM).await?;
    let rest = Rest::new(gateway.address());
    let session = rest.session(PATIENCE).await?;

    let made = sessions(&rest, &machine).await?;
    report.latency(
        "create → running, from a warm template",
        &made,
        Some(15.0),
        None,
    );
    let shell = trivial(&rest, &session, "shell", "true").await?;
    report.latency("execute-sync, trivial shell", &shell, Some(8.0), Some(40.0));
    interpreters(&rest, &session, &machine, &mut report).await?;
    let waited = waiting(&rest).await?;
    report.latency(
        "execute-sync, trivial Python, an interpreter waiting",
        &waited,
        Some(15.0),
        None,
    );

    let (sessions, each) = CROWD;
    let failed = crowd(&rest).await?;
    report.number(
        format!(
            "{} executions of `sleep 1` on {sessions} sessions: failed",
            sessions * each
        ),
        failed as f64,
        "",
        Some(Bar::AtMost(0.0)),
    );
    let resident = gateway.most_resident_mib()?;
    let bar = Some(Bar::AtMost(150.0));
    report.number("the gateway, at its largest", resident, "MiB", bar);

    gateway.stop().await?;
    let gateway = Gateway::start(machine.folder(), WARM).await?;
    large_file(&gateway, &mut report).await?;
    gateway.stop().await?;
    machine.stop().await?;
    Ok(report)
}

/// How long it takes until a new session runs, its pool being full each time and the session
/// before it gone.
async fn sessions(rest: &Rest, machine: &Machine) -> Result<Samples> {
    let mut made = Samples::default();
    for _ in 0..SESSIONS {
        until_warm(machine).await?;
        let started = Instant::now();
        let session = rest.session(PATIENCE).await?;
        made.add(started.elapsed());
        rest.end(&session).await?;
    }
    Ok(made)
}

async fn until_warm(machine: &Machine) -> Result<()> {
    let client = machine.client().await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), gateway::NAMESPACE);
    let pools: Api<WarmPool> = Api::namespaced(client, gateway::NAMESPACE);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pool = pools.get(gateway::TEMPLATE).await?;
        let is_full = pool.status.is_some_and(|status| status.ready >= WARM);
        let all = pods.list(&ListParams::default()).await?;
        let goes = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        if is_full && !all.items.iter().any(goes) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the pool does not get warm");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn trivial(rest: &Rest, session: &str, language: &str, code: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for number in 0..WARM_UP + EXECUTIONS {
        let started = Instant::now();
        rest.run(session, language, code).await?;
        if number >= WARM_UP {
            samples.add(started.elapsed());
        }
    }
    Ok(samples)
}

/// Python in a session, as a session's first code and later, and the bare interpreter, in turn, so
/// that all have the same weather.
async fn interpreters(
    rest: &Rest,
    session: &str,
    machine: &Machine,
    report: &mut Report,
) -> Result<()> {
    // The very program that the session runs; what PATH has here may be a script before it.
    let which = "import sys\ndef handler(event):\n    return sys.executable";
    let interpreter = rest.run(session, "python", which).await?["return_value"].clone();
    let interpreter = interpreter.as_str().context("no interpreter")?.to_owned();
    let (mut first, mut later, mut bare) = <(Samples, Samples, Samples)>::default();
    for number in 0..INTERPRETERS + INTERPRETERS / 10 {
        until_warm(machine).await?;
        let run = timed(rest.run(session, "python", TRIVIAL)).await?;
        let start = timed(start(&interpreter)).await?;
        let fresh = rest.session(PATIENCE).await?;
        let fresh_run = timed(rest.run(&fresh, "python", TRIVIAL)).await?;
        rest.end(&fresh).await?;
        if number >= INTERPRETERS / 10 {
            first.add(fresh_run);
            later.add(run);
            bare.add(start);
        }
    }
    report.latency("execute-sync, trivial Python", &later, None, None);
    report.latency("the same as a session's first code", &first, None, None);
    report.latency("the bare interpreter's own start", &bare, None, None);
    let median = |samples: &Samples| samples.percentile(0.5).as_secs_f64();
    for (name, inside) in [
        ("Python in a session, of the bare one", later),
        ("a session's first Python, of the bare one", first),
    ] {
        let share = median(&inside) / median(&bare);
        report.number(name, share, "×", Some(Bar::AtMost(1.15)));
    }
    Ok(())
}

/// How long something took.
async fn timed<T>(doing: impl Future<Output = Result<T>>) -> Result<Duration> {
    let started = Instant::now();
    doing.await?;
    Ok(started.elapsed())
}

/// The bare interpreter, from its start to its end.
async fn start(interpreter: &str) -> Result<()> {
    let mut python = tokio::process::Command::new(interpreter);
    let ended = python.args(["-c", "pass"]).status().await?;
    ensure!(ended.success(), "python3 ended with {ended}");
    Ok(())
}

/// Trivial Python where the template has an interpreter wait for it, for a client that thinks
/// for a moment in between.
async fn waiting(rest: &Rest) -> Result<Samples> {
    let session = rest.waiting_session(PATIENCE).await?;
    let mut samples = Samples::default();
    for number in 0..INTERPRETERS + INTERPRETERS / 10 {
        tokio::time::sleep(THOUGHT).await;
        let started = Instant::now();
        rest.run(&session, "python", TRIVIAL).await?;
        if number >= INTERPRETERS / 10 {
            samples.add(started.elapsed());
        }
    }
    rest.end(&session).await?;
    Ok(samples)
}

/// Many sessions busy at the same time; how many executions failed.
async fn crowd(rest: &Rest) -> Result<usize> {
    let (sessions, each) = CROWD;
    let sessions: Vec<String> = stream::iter(0..sessions)
        .map(|_| rest.session(PATIENCE))
        .buffer_unordered(8)
        .try_collect()
        .await?;
    let runs = (0..each).flat_map(|_| &sessions);
    let failed = stream::iter(runs)
        .map(|session| rest.run(session, "shell", "sleep 1"))
        .buffer_unordered(CROWD.0 * CROWD.1)
        .filter(|done| std::future::ready(done.is_err()))
        .count()
        .await;
    for session in &sessions {
        rest.end(session).await?;
    }
    Ok(failed)
}

/// What a large file that goes in and out adds to the gateway.
async fn large_file(gateway: &Gateway, report: &mut Report) -> Result<()> {
    let rest = Rest::new(gateway.address());
    let session = rest.large_session(PATIENCE).await?;
    let before = gateway.most_resident_mib()?;
    let started = Instant::now();
    rest.upload(&session, "large.bin", LARGE).await?;
    let up = started.elapsed();
    let started = Instant::now();
    let size = rest.download(&session, "large.bin").await?;
    let down = started.elapsed();
    ensure!(size == LARGE, "{size} bytes came back");
    let grown = gateway.most_resident_mib()? - before;
    rest.end(&session).await.context("the large session")?;
    let bar = Some(Bar::AtMost(64.0));
    report.number("1 GiB in and out: the gateway grows by", grown, "MiB", bar);
    report.number("1 GiB in", up.as_secs_f64(), "s", None);
    report.number("1 GiB out", down.as_secs_f64(), "s", None);
    Ok(())
}
