//! Who is let in, and what user code can find out.

use std::{process::Command, time::Duration};

use hyper_util::rt::TokioIo;
use sandlot_access::{AGENT_KEY, OPERATOR_KEYS, PrivateKey, PublicKey};
use sandlot_api::agent::agent_service_client::AgentServiceClient;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{Agent, LONG, free_port, sh, to_the_end};

/// An agent's variables, the key that it lets in, and the one that it shows.
fn keys() -> ([(&'static str, String); 2], PrivateKey, PublicKey) {
    let (operator, own) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap(),
    );
    let callers = operator.public().unwrap().to_string();
    let variables = [(OPERATOR_KEYS, callers), (AGENT_KEY, own.reveal())];
    (variables, operator, own.public().unwrap())
}

/// An agent that lets in the holder of the returned key.
fn closed_agent() -> (Agent, PrivateKey, PublicKey) {
    let (variables, operator, key) = keys();
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let agent = Agent::start(&["--http-port", "0"], &variables);
    (agent, operator, key)
}

/// The same without the capabilities that a test run by root has and a container has not, so that
/// its commands are no less than it is.
fn contained_agent() -> (Agent, PrivateKey, PublicKey) {
    if !nix::unistd::geteuid().is_root() {
        return closed_agent();
    }
    let (variables, operator, key) = keys();
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    std::fs::create_dir(dir.path().join("workspace")).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(env!("CARGO_BIN_EXE_sandlot-agent"))
        .args(["--http-port", "0", "--grpc-port", &port.to_string()])
        .arg("--workspace")
        .arg(dir.path().join("workspace"))
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .envs(variables);
    let process = command.spawn().unwrap();
    (Agent { process, port, dir }, operator, key)
}

async fn connect(
    agent: &Agent,
    caller: &PrivateKey,
    key: PublicKey,
) -> Result<Channel, tonic::transport::Error> {
    let tls = TlsConnector::from(sandlot_access::client(caller, key).unwrap());
    let port = agent.port;
    let connector = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = ServerName::try_from("agent").map_err(std::io::Error::other)?;
            tls.connect(name, stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://agent")
        .connect_with_connector(connector)
        .await
}

/// Waits until somebody listens there.
async fn listening(agent: &Agent) {
    let waiting = async {
        while TcpStream::connect(("127.0.0.1", agent.port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

#[tokio::test]
async fn only_the_operator_gets_anything_done() {
    let (agent, operator, key) = closed_agent();
    listening(&agent).await;
    let channel = connect(&agent, &operator, key).await.unwrap();
    let stream = AgentServiceClient::new(channel)
        .execute(sh("echo hello"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(to_the_end(stream).await.text(), "hello\n");

    // TLS 1.3 callers learn that they were refused only when they go on.
    let stranger = PrivateKey::generate().unwrap();
    if let Ok(channel) = connect(&agent, &stranger, key).await {
        assert!(
            AgentServiceClient::new(channel)
                .execute(sh("echo hello"))
                .await
                .is_err()
        );
    }
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{}", agent.port))
        .unwrap()
        .connect_lazy();
    assert!(
        AgentServiceClient::new(plain)
            .execute(sh("echo hello"))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn callers_who_never_say_a_word_keep_nobody_out() {
    let (agent, operator, key) = closed_agent();
    listening(&agent).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(("127.0.0.1", agent.port)).await.unwrap());
    }
    let connecting = connect(&agent, &operator, key);
    let connected = tokio::time::timeout(LONG, connecting).await.unwrap();
    assert!(connected.is_ok(), "{connected:?}");
}

/// Every way a process has to look into another one of the same user. Each prints `denied`.
const LOOK: &str = r#"
import ctypes, os, sys
pid = int(sys.argv[1])
system = ctypes.CDLL(None, use_errno=True)
def told(what, refused):
    print(what, "denied" if refused else "OPEN")
for file in ["environ", "mem", "maps", "fd/1", "root", "cwd", "exe", "syscall", "auxv"]:
    path = f"/proc/{pid}/{file}"
    try:
        # A read, a listing or a link, whichever it is.
        for look in (lambda: open(path, "rb").read(1), lambda: os.listdir(path), lambda: os.readlink(path)):
            try:
                look()
                told(file, False)
                break
            except (IsADirectoryError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno == 22:
                    continue
                raise
    except PermissionError:
        told(file, True)
ATTACH, SEIZE, PIDFD_OPEN, PIDFD_GETFD, READV = 16, 0x4206, 434, 438, 310
told("ptrace attach", system.ptrace(ATTACH, pid, 0, 0) == -1)
told("ptrace seize", system.ptrace(SEIZE, pid, 0, 0) == -1)
handle = system.syscall(PIDFD_OPEN, pid, 0)
told("its sockets", all(system.syscall(PIDFD_GETFD, handle, fd, 0) == -1 for fd in range(64)))
bytes = ctypes.create_string_buffer(8)
vector = (ctypes.c_size_t * 2)(ctypes.addressof(bytes), 8)
told("its memory", system.syscall(READV, pid, vector, 1, vector, 1, 0) == -1)
"#;

#[tokio::test]
async fn a_command_cannot_look_into_the_agent_or_its_keeper() {
    let (agent, operator, key) = contained_agent();
    listening(&agent).await;
    let channel = connect(&agent, &operator, key).await.unwrap();
    std::fs::write(agent.path("workspace/look.py"), LOOK).unwrap();
    let script = format!(
        "env; keeper=$PPID; python3 look.py {} 2>&1; python3 look.py $keeper 2>&1",
        agent.process.id()
    );
    let stream = AgentServiceClient::new(channel)
        .execute(sh(&script))
        .await
        .unwrap()
        .into_inner();
    let told = to_the_end(stream).await;
    let text = told.text();
    assert!(!text.contains(AGENT_KEY), "{text}");
    assert!(
        !text.contains(" OPEN\n") && !text.contains("Traceback"),
        "{text}"
    );
    assert_eq!(text.matches("denied").count(), 26, "{text}");
}
