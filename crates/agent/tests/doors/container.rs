//! `sandlot-agent run`: the agent as the first process of a container. And `install`.

use std::{io::Read, os::unix::fs::PermissionsExt, process::Command};

use nix::sys::signal::Signal;
use sandlot_api::agent::ResetRequest;

use crate::{Agent, LONG, execute, keyed, lives, sh, until};

/// Ends the agent and what it started, which would live on if it were killed.
fn end(mut agent: Agent) {
    agent.signal(Signal::SIGTERM);
    agent.process.wait().unwrap();
}

fn running(script: &str) -> Agent {
    Agent::start(&["run", "--plain", "--", "/bin/sh", "-c", script], &[])
}

#[tokio::test]
async fn the_agent_ends_with_the_commands_exit_code() {
    let mut agent = running("echo said by the container; exit 7");
    assert_eq!(agent.process.wait().unwrap().code(), Some(7));
    let mut said = String::new();
    agent
        .process
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "said by the container\n");
    let mut agent = Agent::start(&["run", "--plain", "--", "no-such-program"], &[]);
    assert_eq!(agent.process.wait().unwrap().code(), Some(127));
}

#[tokio::test]
async fn being_told_to_go_is_handed_on_and_takes_what_runs_along() {
    let ready = tempfile::NamedTempFile::new().unwrap();
    let script = "trap 'exit 9' TERM; echo ready > $READY; while :; do sleep 0.02; done";
    let words = ["run", "--plain", "--", "/bin/sh", "-c", script];
    let mut agent = Agent::start(&words, &[("READY", ready.path().to_str().unwrap())]);
    until("the command is ready", || {
        std::fs::read_to_string(ready.path()).unwrap() == "ready\n"
    })
    .await;
    let pid = {
        let mut client = agent.client().await;
        let mut stream = client
            .execute(keyed("k", "exec sleep 1000"))
            .await
            .unwrap()
            .into_inner();
        stream.message().await.unwrap().unwrap().pid
    };
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.process.wait().unwrap().code(), Some(9));
    assert!(!lives(pid));
}

#[tokio::test]
async fn orphans_are_reaped() {
    let agent = running("exec sleep 1000");
    let told = execute(
        &agent,
        sh("(sh -c 'echo $$; exec sleep 0.1' &) ; sleep 0.05"),
    )
    .await;
    let pid: i32 = told.text().trim().parse().unwrap();
    until("no trace is left of it", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    })
    .await;
    end(agent);
}

#[tokio::test]
async fn a_reset_leaves_no_process_and_no_file_and_starts_the_command_anew() {
    let starts = tempfile::NamedTempFile::new().unwrap();
    let words = [
        "run",
        "--plain",
        "--",
        "/bin/sh",
        "-c",
        "echo started >> $STARTS; exec sleep 1000",
    ];
    let agent = Agent::start(&words, &[("STARTS", starts.path().to_str().unwrap())]);
    let count = || {
        std::fs::read_to_string(starts.path())
            .unwrap()
            .lines()
            .count()
    };
    until("the command has started", || count() == 1).await;
    let mess = "mkdir -p a/b; echo x > a/b/c; chmod 000 a/b; ln -s / root; touch .hidden; \
                (setsid sh -c 'trap \"\" TERM HUP; echo $$ > pid; mv pid pid.done; while :; do sleep 0.05; done' &); \
                until test -e pid.done; do sleep 0.01; done; cat pid.done";
    let told = execute(&agent, sh(mess)).await;
    let pid: i32 = told.text().trim().parse().unwrap();
    assert!(lives(pid));

    let reset = agent
        .client()
        .await
        .reset(ResetRequest {
            preserve_files: true,
        })
        .await
        .unwrap()
        .into_inner();
    assert!(reset.success, "{}", reset.message);
    assert!(!lives(pid) && agent.path("workspace/a").exists());
    // The next one here must not read what this one was told, nor find what it has hidden.
    let mut secret = sh("echo secret");
    secret.key = "k".to_owned();
    let told = execute(&agent, secret).await;
    assert_eq!(told.text(), "secret\n");
    std::fs::write(agent.path("state/hidden"), "secret").unwrap();
    let reset = agent
        .client()
        .await
        .reset(ResetRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(reset.success, "{}", reset.message);
    assert_eq!(agent.path("workspace").read_dir().unwrap().count(), 0);
    assert_eq!(agent.path("state/runs").read_dir().unwrap().count(), 0);
    assert!(!agent.path("state/hidden").exists());
    assert!(
        std::path::Path::new("/etc/passwd").exists(),
        "links are removed, not followed"
    );
    until("the command starts anew each time", || count() == 3).await;
    assert_eq!(execute(&agent, sh("echo works")).await.text(), "works\n");
    end(agent);
}

#[test]
fn installing_copies_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/folder");
    let done = Command::new(env!("CARGO_BIN_EXE_sandlot-agent"))
        .arg("install")
        .arg(&folder)
        .status()
        .unwrap();
    assert!(done.success());
    let copy = folder.join("sandlot-agent");
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert!(
        Command::new(copy)
            .arg("--version")
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn health_is_told_over_http() {
    let port = crate::free_port();
    let agent = Agent::start(&["--plain", "--http-port", &port.to_string()], &[]);
    agent.client().await;
    for (path, word) in [
        ("/health", "{\"status\":\"healthy\"}"),
        ("/healthz", "ok"),
        ("/readyz", "ok"),
    ] {
        assert!(get(port, path).await.ends_with(word), "{path}");
    }
}

async fn get(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}
