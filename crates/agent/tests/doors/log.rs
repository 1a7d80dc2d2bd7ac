//! What the agent tells beside the answers to calls: long output, in the container's own log; and
//! what runs.

use std::io::Read;

use sandlot_api::agent::{ExecRequest, RunsRequest, SignalRequest};

use crate::{Agent, execute, keyed, next};

fn logged(key: &str, script: &str) -> ExecRequest {
    ExecRequest {
        log: true,
        log_beyond: 1_000,
        ..keyed(key, script)
    }
}

#[tokio::test]
async fn long_output_is_told_in_the_containers_log_once_and_short_output_is_not() {
    let mut agent = Agent::sidecar();
    let mut log = agent.process.stdout.take().unwrap();
    execute(&agent, logged("short", "echo short")).await;
    for _ in 0..2 {
        let told = execute(&agent, logged("long", "seq 1 2000")).await;
        assert!(told.text().ends_with("2000\n"));
    }
    execute(
        &agent,
        logged("last", "head -c 5000 /dev/zero; seq 1 3000 >&2"),
    )
    .await;
    let (heard, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = log.read(&mut piece) {
            let _ = heard.send(piece[..count].to_vec());
        }
    });
    let mut text = Vec::new();
    let all_told = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        text.contains("\n2000\n") && text.contains("\n3000\n")
    };
    while !all_told(&text) {
        text.extend(hear.recv_timeout(crate::LONG).unwrap());
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(!text.contains("[short"), "{text}");
    for block in [
        "[long stdout from byte 0]",
        "[long stdout from byte 1000]",
        "[last stderr from byte 0]",
    ] {
        assert_eq!(text.matches(block).count(), 1, "{block}");
    }
}

#[tokio::test]
async fn what_runs_is_told_by_its_keys() {
    let agent = Agent::sidecar();
    let mut client = agent.client().await;
    let mut stream = client
        .execute(keyed("going", "echo begun; sleep 600"))
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await.unwrap();
    execute(&agent, keyed("over", "true")).await;
    let runs = client.runs(RunsRequest {}).await.unwrap().into_inner();
    assert_eq!(runs.keys, ["going"]);
    let stop = SignalRequest {
        key: "going".to_owned(),
        stop: true,
        ..SignalRequest::default()
    };
    client.signal_process(stop).await.unwrap();
    let runs = client.runs(RunsRequest {}).await.unwrap().into_inner();
    assert!(runs.keys.is_empty(), "{:?}", runs.keys);
}
