//! The task executor beside the sandbox container: two mount namespaces that see each other's
//! processes, as containers of a pod that shares them do. Making them takes root.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{LONG, free_port, lives};

/// A process that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container with a `/mnt` of its own in which there is a marker, run by a user of its own.
fn container(name: &str) -> Ending {
    let script = "mount -t tmpfs tmpfs /mnt && echo inside > /mnt/marker && chmod 777 /mnt && \
                  cd /mnt && exec setpriv --reuid 1234 --regid 1235 --clear-groups \
                  --bounding-set -sys_ptrace,-sys_chroot sleep 1000";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    command
        .env("SANDBOX_MAIN_CONTAINER", name)
        .env("FROM", "the sandbox");
    Ending(command.spawn().unwrap())
}

/// Asks the executor, and reads its answer.
async fn ask(port: u16, method: &str, path: &str, body: &Value) -> Option<Value> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .ok()?;
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Asks again and again until the answer is as wanted.
async fn until(
    port: u16,
    (method, path, body): (&str, &str, Value),
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let asking = async {
        loop {
            match ask(port, method, path, &body).await {
                Some(answer) if wanted(&answer) => return answer,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let answer = tokio::time::timeout(LONG, asking).await;
    answer.unwrap_or_else(|_| panic!("{method} {path}: never as wanted"))
}

#[tokio::test]
async fn tasks_run_in_the_sandbox_container_as_its_user_and_with_no_more_than_it_may() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: making a container takes root");
        return;
    }
    let name = format!("sandbox-{}", std::process::id());
    let sandbox = container(&name);
    let status = format!("/proc/{}/status", sandbox.0.id());
    let is_itself = || std::fs::read_to_string(&status).is_ok_and(|text| text.contains("\t1234\t"));
    crate::until("the sandbox is what it will be", is_itself).await;
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandlot-agent"));
    command
        .arg0("/opt/opensandbox/task-executor")
        .arg(format!("-listen-addr=127.0.0.1:{port}"))
        .args(["-enable-sidecar-mode=true", "-main-container-name", &name])
        .arg("-data-dir")
        .arg(dir.path());
    let _executor = Ending(command.stdout(Stdio::null()).spawn().unwrap());

    let script = "\
                  exec > /mnt/said 2>&1; cat marker; echo $FROM $GREETING; id -u; id -g; pwd; \
                  grep CapBnd /proc/self/status; sleep 1000";
    let tasks = json!([{ "name": "t", "process": {
        "command": ["sh", "-c"], "args": [script], "env": [{ "name": "GREETING", "value": "hello" }] } }]);
    until(port, ("POST", "/setTasks", tasks), |answer| {
        answer.is_array()
    })
    .await;
    let running = |tasks: &Value| !tasks[0]["processStatus"]["running"].is_null();
    until(port, ("GET", "/getTasks", Value::Null), running).await;

    let inside = format!("/proc/{}/root/mnt/said", sandbox.0.id());
    let said = || std::fs::read_to_string(&inside).unwrap_or_default();
    crate::until("it has said all", || said().contains("CapBnd")).await;
    let said = said();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..5],
        ["inside", "the sandbox hello", "1234", "1235", "/mnt"]
    );
    let capabilities = lines[5].split_whitespace().last().unwrap();
    let capabilities = u64::from_str_radix(capabilities, 16).unwrap();
    let (sys_chroot, sys_ptrace) = (1 << 18, 1 << 19);
    assert_eq!(capabilities & (sys_chroot | sys_ptrace), 0, "{said}");
    assert!(!std::path::Path::new("/mnt/said").exists());

    until(port, ("POST", "/setTasks", json!([])), |answer| {
        answer.is_array()
    })
    .await;
    until(port, ("GET", "/getTasks", Value::Null), |tasks| {
        *tasks == json!([])
    })
    .await;
    assert!(
        lives(sandbox.0.id().cast_signed()),
        "the sandbox itself goes on"
    );
}
