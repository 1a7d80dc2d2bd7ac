//! Numbers, by hand: `cargo test --release -p sandlot-agent --test measure -- --ignored --nocapture`.
//! `SANDLOT_AGENT_BINARY` measures another build of the agent, the small static one for example.

use std::{
    net::TcpListener,
    process::{Child, Command},
    time::{Duration, Instant},
};

use sandlot_api::agent::{ExecRequest, agent_service_client::AgentServiceClient};
use tonic::transport::Channel;

type Client = AgentServiceClient<Channel>;

struct Agent {
    process: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Agent {
    /// A line of the agent's status, in KiB.
    fn status(&self, name: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Processor time used so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

async fn agent() -> (Agent, Client) {
    let program = std::env::var("SANDLOT_AGENT_BINARY")
        .unwrap_or(env!("CARGO_BIN_EXE_sandlot-agent").to_owned());
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = Command::new(program);
    command.args([
        "--plain",
        "--http-port",
        "0",
        "--grpc-port",
        &port.to_string(),
        "--workspace",
    ]);
    command
        .arg(dir.path())
        .arg("--state-dir")
        .arg(dir.path().join("state"));
    let agent = Agent {
        process: command.spawn().unwrap(),
        _dir: dir,
    };
    loop {
        match AgentServiceClient::connect(format!("http://127.0.0.1:{port}")).await {
            Ok(client) => return (agent, client),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn command(words: &[&str]) -> ExecRequest {
    ExecRequest {
        command: words.iter().map(ToString::to_string).collect(),
        ..ExecRequest::default()
    }
}

async fn run(client: &mut Client, request: ExecRequest) -> usize {
    let mut stream = client.execute(request).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(frame) = stream.message().await.unwrap() {
        bytes += frame.stdout.len().max(frame.stdout_bytes.len());
    }
    bytes
}

#[tokio::test]
#[ignore = "a measurement"]
async fn trivial_commands() {
    let (agent, mut client) = agent().await;
    println!("idle: {} KiB resident", agent.status("VmRSS"));
    for (name, keyed) in [
        ("without a key", false),
        ("with a key, twice on the disk", true),
    ] {
        let mut times = Vec::new();
        for number in 0..500 {
            let mut request = command(&["/bin/true"]);
            if keyed {
                request.key = format!("{name} {number}");
            }
            let start = Instant::now();
            run(&mut client, request).await;
            times.push(start.elapsed());
        }
        times.sort();
        println!("true {name}: p50 {:?}, p99 {:?}", times[250], times[495]);
    }
    println!(
        "after 1000 commands: {} KiB resident",
        agent.status("VmRSS")
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_gibibyte_of_output() {
    let (agent, mut client) = agent().await;
    for (name, script) in [
        ("text", "yes | head -c 1073741824"),
        ("zeros", "head -c 1073741824 /dev/zero"),
    ] {
        let (start, before) = (Instant::now(), agent.cpu());
        assert_eq!(
            run(&mut client, command(&["/bin/sh", "-c", script])).await,
            1 << 30
        );
        let (took, cpu) = (
            start.elapsed().as_secs_f64(),
            (agent.cpu() - before).as_secs_f64(),
        );
        println!(
            "1 GiB of {name}: {:.0} MiB/s, agent's processor time {cpu:.2} s ({:.0} MiB/s), at most {} KiB resident",
            1024.0 / took,
            1024.0 / cpu,
            agent.status("VmHWM"),
        );
    }
}
