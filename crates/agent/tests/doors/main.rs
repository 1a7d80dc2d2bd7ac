//! What a client of the agent notices, against the real program.

mod access;
mod commands;
mod container;
mod executor;
mod files;
mod log;
mod neighbour;
mod shell;
mod tasks;

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandlot_api::agent::{ExecLog, ExecRequest, agent_service_client::AgentServiceClient};
use tonic::{Streaming, transport::Channel};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// An agent that goes when the test ends.
struct Agent {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

/// A free port, which is given to no other test, and to no connection that goes out: those have
/// higher ones.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

impl Agent {
    /// A sidecar that anybody may call.
    fn sidecar() -> Self {
        Self::start(&["--plain", "--http-port", "0"], &[])
    }

    /// An agent with these words after its folders and port.
    fn start(words: &[&str], variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("workspace")).unwrap();
        let port = free_port();
        let process = Self::spawn(&dir, port, words, variables);
        Self { process, port, dir }
    }

    fn spawn(
        dir: &tempfile::TempDir,
        port: u16,
        words: &[&str],
        variables: &[(&str, &str)],
    ) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandlot-agent"));
        let (run, words) = match words.split_first() {
            Some((&"run", rest)) => (Some("run"), rest),
            _ => (None, words),
        };
        command
            .args(run)
            .arg("--workspace")
            .arg(dir.path().join("workspace"));
        command
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .args(["--grpc-port", &port.to_string()]);
        command.args(words).envs(variables.iter().copied());
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = Self::spawn(&self.dir, self.port, &["--plain", "--http-port", "0"], &[]);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// A client, once the agent answers.
    async fn client(&self) -> AgentServiceClient<Channel> {
        let address = format!("http://127.0.0.1:{}", self.port);
        let connecting = async {
            loop {
                match Channel::from_shared(address.clone())
                    .unwrap()
                    .connect()
                    .await
                {
                    Ok(channel) => return channel,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        AgentServiceClient::new(
            tokio::time::timeout(LONG, connecting)
                .await
                .expect("the agent answers"),
        )
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Told to go, it takes everything it runs along; killed, it would leave that behind.
        let _ = kill(
            Pid::from_raw(self.process.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.process.wait();
    }
}

fn sh(script: &str) -> ExecRequest {
    ExecRequest {
        command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        ..ExecRequest::default()
    }
}

fn keyed(key: &str, script: &str) -> ExecRequest {
    ExecRequest {
        key: key.to_owned(),
        ..sh(script)
    }
}

/// All that a command said and how it ended.
#[derive(Debug, Default)]
struct Told {
    stdout: Vec<u8>,
    stderr: String,
    last: ExecLog,
}

impl Told {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

async fn execute(agent: &Agent, request: ExecRequest) -> Told {
    let stream = agent
        .client()
        .await
        .execute(request)
        .await
        .unwrap()
        .into_inner();
    to_the_end(stream).await
}

async fn to_the_end(mut stream: Streaming<ExecLog>) -> Told {
    let mut told = Told::default();
    while let Some(frame) = next(&mut stream).await {
        told.stdout.extend_from_slice(bytes(&frame));
        told.stderr.push_str(&frame.stderr);
        told.last = frame;
    }
    assert!(told.last.done, "the last frame says so");
    told
}

async fn next(stream: &mut Streaming<ExecLog>) -> Option<ExecLog> {
    tokio::time::timeout(LONG, stream.message())
        .await
        .expect("in time")
        .unwrap()
}

/// What a frame's standard output is, byte for byte.
fn bytes(frame: &ExecLog) -> &[u8] {
    if frame.stdout_bytes.is_empty() {
        frame.stdout.as_bytes()
    } else {
        &frame.stdout_bytes
    }
}

/// Reads frames until the command has said `word`. Returns what it said.
async fn hear(stream: &mut Streaming<ExecLog>, word: &str) -> String {
    let mut text = String::new();
    while !text.contains(word) {
        let frame = next(stream).await.expect("it goes on");
        assert!(
            !frame.done,
            "ended before saying {word:?}: {text:?} {frame:?}"
        );
        text.push_str(&frame.stdout);
    }
    text
}

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}
