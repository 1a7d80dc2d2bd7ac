//! `sandlot bench exec`: commands through an agent's gRPC door, in a real pod of a warm pool.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use sandlot_access::{AGENT_KEY_ANNOTATION, PrivateKey, PublicKey, dial};
use sandlot_api::{
    agent::{ExecRequest, agent_service_client::AgentServiceClient},
    arl::WarmPool,
};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use super::{
    report::{Bar, Report, Samples},
    sight::Sight,
    stand_in::pool,
    subject::Machine,
};

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Trivial commands that count, after some that warm caches up.
const COMMANDS: usize = 500;
const WARM_UP: usize = 50;
/// The flood.
const FLOOD: u64 = 1 << 30;
/// Where agents listen.
const PORT: u16 = 50051;

/// An agent in a pod, called as its operator calls it.
struct Agent(AgentServiceClient<Channel>);

/// Trivial commands, then a gibibyte of output.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("commands through an agent");
    let (machine, _) = Machine::start(&[]).await?;
    let mut agent = Agent::in_a_pod_of(&machine).await?;
    report.number(
        "agent, idle, resident",
        agent.status("VmRSS").await? / 1024.0,
        "MiB",
        Some(Bar::AtMost(4.0)),
    );
    for (what, keyed) in [
        ("execute `true`", false),
        ("execute `true` once, whoever crashes", true),
    ] {
        let samples = agent.trivial(keyed).await?;
        report.latency(what, &samples, Some(2.0), None);
    }
    for (what, script, bar) in [
        (
            "1 GiB of zeros",
            format!(
                "exec dd if=/dev/zero bs=1M count={} 2>/dev/null",
                FLOOD >> 20
            ),
            Some(Bar::AtLeast(500.0)),
        ),
        ("1 GiB of lines", format!("yes | head -c {FLOOD}"), None),
    ] {
        let before = agent.processor_seconds().await?;
        let started = Instant::now();
        let bytes = agent.run(&["sh", "-c", &script], String::new()).await?;
        let took = started.elapsed().as_secs_f64();
        ensure!(bytes == FLOOD, "{what}: {bytes} bytes came");
        report.number(what, 1024.0 / took, "MiB/s", bar);
        let busy = agent.processor_seconds().await? - before;
        report.number(format!("{what}: agent's processor time"), busy, "s", None);
    }
    report.number(
        "agent, at most resident",
        agent.status("VmHWM").await? / 1024.0,
        "MiB",
        Some(Bar::AtMost(32.0)),
    );
    report.note("the agent runs in a pod of a warm pool of `sandlot up`, image `host`; it and its caller prove who they are");
    report.note(format!("load average {}", load()));
    machine.stop().await?;
    Ok(report)
}

impl Agent {
    async fn in_a_pod_of(machine: &Machine) -> Result<Agent> {
        let client = machine.client().await?;
        let pools: Api<WarmPool> = Api::namespaced(client.clone(), "default");
        let warm = Sight::open(Api::namespaced(client.clone(), "default"), is_warm).await?;
        pools
            .create(&PostParams::default(), &pool("exec", 1, json!({}))?)
            .await?;
        warm.of("exec", PATIENCE).await.context("the pool")?;
        let pods: Api<Pod> = Api::namespaced(client, "default");
        let pods = pods.list(&ListParams::default()).await?;
        let pod = pods
            .items
            .into_iter()
            .next()
            .context("the pool has no pod")?;
        let key: PublicKey = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|notes| notes.get(AGENT_KEY_ANNOTATION))
            .context("the pod does not name its agent's key")?
            .parse()?;
        let ip = pod
            .status
            .and_then(|status| status.pod_ip)
            .context("the pod has no address")?;
        let own = PrivateKey::kept_at(&machine.folder().join("data/operator.key"))?;
        let endpoint = Endpoint::from_shared(format!("http://{ip}:{PORT}"))?.tcp_nodelay(true);
        Ok(Agent(AgentServiceClient::new(dial(endpoint, &own, key)?)))
    }

    async fn trivial(&mut self, keyed: bool) -> Result<Samples> {
        let mut samples = Samples::default();
        for number in 0..WARM_UP + COMMANDS {
            let key = match keyed {
                true => format!("bench/{number}"),
                false => String::new(),
            };
            let started = Instant::now();
            self.run(&["true"], key).await?;
            if number >= WARM_UP {
                samples.add(started.elapsed());
            }
        }
        Ok(samples)
    }

    /// Runs a command to its end; says how many bytes it wrote.
    async fn run(&mut self, command: &[&str], key: String) -> Result<u64> {
        let mut bytes = 0;
        self.frames(command, key, |out| bytes += out.len() as u64)
            .await?;
        Ok(bytes)
    }

    async fn frames(
        &mut self,
        command: &[&str],
        key: String,
        mut each: impl FnMut(&[u8]),
    ) -> Result<()> {
        let request = ExecRequest {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            key,
            ..ExecRequest::default()
        };
        let mut frames = self.0.execute(request).await?.into_inner();
        while let Some(frame) = frames.message().await? {
            match frame.stdout_bytes.is_empty() {
                true => each(frame.stdout.as_bytes()),
                false => each(&frame.stdout_bytes),
            }
            ensure!(
                !frame.done || frame.exit_code == 0,
                "{command:?} in the pod: {}",
                frame.reason
            );
        }
        Ok(())
    }

    /// A file of the agent's own process, which is the first one in its container.
    async fn own(&mut self, file: &str) -> Result<String> {
        let mut text = Vec::new();
        let path = format!("/proc/1/{file}");
        self.frames(&["cat", &path], String::new(), |out| {
            text.extend_from_slice(out)
        })
        .await?;
        Ok(String::from_utf8(text)?)
    }

    /// A line of the agent's status, in KiB.
    async fn status(&mut self, name: &str) -> Result<f64> {
        let status = self.own("status").await?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.with_context(|| format!("no {name}"))?.parse()?)
    }

    /// Processor time that the agent has used.
    async fn processor_seconds(&mut self) -> Result<f64> {
        let stat = self.own("stat").await?;
        let (_, fields) = stat.rsplit_once(')').context("no stat")?;
        let ticks = |field: usize| -> Result<f64> {
            let field = fields.split_whitespace().nth(field);
            Ok(field.context("a short stat")?.parse()?)
        };
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }
}

fn is_warm(pool: &WarmPool) -> bool {
    pool.status
        .as_ref()
        .is_some_and(|status| status.ready >= pool.spec.replicas)
}

/// What else the machine is doing.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}
