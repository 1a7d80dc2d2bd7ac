//! Execute and SignalProcess.

use std::collections::HashMap;

use nix::sys::signal::Signal;
use sandlot_api::agent::{ExecRequest, SignalRequest};

use crate::{Agent, execute, hear, keyed, lives, next, sh, to_the_end, until};

#[tokio::test]
async fn a_command_is_told_from_its_process_id_to_its_exit_code() {
    let agent = Agent::sidecar();
    let mut stream = agent
        .client()
        .await
        .execute(sh("echo out; echo err >&2; exit 3"))
        .await
        .unwrap()
        .into_inner();
    assert!(next(&mut stream).await.unwrap().pid > 1);
    let told = to_the_end(stream).await;
    assert_eq!(
        (told.text(), told.stderr.as_str(), told.last.exit_code),
        ("out\n", "err\n", 3)
    );
    assert_eq!(told.last.reason, "ended with exit code 3");
    assert!(told.last.stdout.is_empty() && told.last.peak_memory_bytes > 0);
}

#[tokio::test]
async fn environment_folder_and_input_are_as_asked() {
    let agent = Agent::start(
        &["--plain"],
        &[("GIVEN", "by the container"), ("SANDLOT_HTTP_PORT", "0")],
    );
    let mut request = sh("pwd; echo $GIVEN $MORE ${SANDLOT_HTTP_PORT-none}; cat");
    request.env = HashMap::from([("MORE".to_owned(), "and more".to_owned())]);
    request.input = "typed".into();
    let told = execute(&agent, request.clone()).await;
    let workspace = agent.path("workspace").canonicalize().unwrap();
    assert_eq!(
        told.text(),
        format!(
            "{}\nby the container and more none\ntyped",
            workspace.display()
        )
    );
    request.working_dir = "/".to_owned();
    assert!(execute(&agent, request).await.text().starts_with("/\n"));
}

#[tokio::test]
async fn what_cannot_run_says_why_with_a_shells_exit_code() {
    let agent = Agent::sidecar();
    let run = |command: &str| ExecRequest {
        command: vec![command.to_owned()],
        ..ExecRequest::default()
    };
    for (request, code, word) in [
        (run("no-such-program"), 127, "no such program along PATH"),
        (run("/etc/passwd"), 126, "may not be executed"),
        (
            ExecRequest {
                working_dir: "/no/such".into(),
                ..sh("true")
            },
            126,
            "could not be entered",
        ),
    ] {
        let told = execute(&agent, request).await;
        assert_eq!(told.last.exit_code, code);
        assert!(
            told.stderr.contains(word) && told.last.reason.contains(word),
            "{told:?}"
        );
    }
    let told = execute(&agent, ExecRequest::default()).await;
    assert_eq!(told.last.exit_code, 1);
}

#[tokio::test]
async fn a_command_out_of_time_says_so_and_keeps_its_output() {
    let agent = Agent::sidecar();
    let told = execute(
        &agent,
        ExecRequest {
            timeout_millis: 300,
            ..sh("echo before; sleep 1000")
        },
    )
    .await;
    assert_eq!(
        (told.text(), told.last.exit_code, told.last.timed_out),
        ("before\n", 124, true)
    );
    assert_eq!(told.last.signal, Signal::SIGTERM as i32);
}

#[tokio::test]
async fn bytes_that_are_no_text_arrive_as_they_are_and_characters_are_not_torn() {
    let agent = Agent::sidecar();
    let told = execute(&agent, sh(r"printf 'a\377\000b'")).await;
    assert_eq!(told.stdout, b"a\xff\0b");
    let mut stream = agent
        .client()
        .await
        .execute(sh(r"printf '\303'; sleep 0.2; printf '\244'"))
        .await
        .unwrap()
        .into_inner();
    while let Some(frame) = next(&mut stream).await {
        assert!(
            frame.stdout_bytes.is_empty() && !frame.stdout.contains('\u{fffd}'),
            "{frame:?}"
        );
    }
}

#[tokio::test]
async fn the_same_key_at_the_same_time_runs_once_and_all_hear_it() {
    let agent = Agent::sidecar();
    let request = keyed("task/0/1", "echo once >> count; sleep 0.2; echo done");
    let asking: Vec<_> =
        (0..32)
            .map(|_| {
                let (asking, request) = (agent.client(), request.clone());
                async move {
                    to_the_end(asking.await.execute(request).await.unwrap().into_inner()).await
                }
            })
            .collect();
    for told in futures::future::join_all(asking).await {
        assert_eq!((told.text(), told.last.exit_code), ("done\n", 0));
    }
    assert_eq!(agent.read("workspace/count"), "once\n");
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_is_asked_again_and_nothing_runs_twice_or_is_lost() {
    let mut agent = Agent::sidecar();
    let request = keyed(
        "task/0/1",
        "echo once >> count; echo first; until test -e go; do sleep 0.02; done; echo second; exit 5",
    );
    let mut stream = agent
        .client()
        .await
        .execute(request.clone())
        .await
        .unwrap()
        .into_inner();
    let heard = hear(&mut stream, "first\n").await;
    agent.kill();
    agent.start_again();
    let mut again = request;
    again.stdout_offset = heard.len() as u64;
    let stream = agent
        .client()
        .await
        .execute(again)
        .await
        .unwrap()
        .into_inner();
    std::fs::write(agent.path("workspace/go"), "").unwrap();
    let told = to_the_end(stream).await;
    assert_eq!((told.text(), told.last.exit_code), ("second\n", 5));
    assert_eq!(agent.read("workspace/count"), "once\n");
}

#[tokio::test]
async fn a_key_never_seen_is_not_found_when_only_attaching() {
    let agent = Agent::sidecar();
    let request = ExecRequest {
        attach_only: true,
        key: "unknown".into(),
        ..ExecRequest::default()
    };
    let refused = agent.client().await.execute(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn closing_the_stream_ends_the_whole_command_but_not_one_with_a_key() {
    let agent = Agent::sidecar();
    let script = "setsid sh -c 'trap \"\" TERM HUP; echo $$ >> pids; while :; do sleep 0.05; done' & echo $$ >> pids; wait";
    let listen = async |request| {
        let mut stream = agent
            .client()
            .await
            .execute(request)
            .await
            .unwrap()
            .into_inner();
        next(&mut stream).await.unwrap();
        until("both have begun", || {
            std::fs::read_to_string(agent.path("workspace/pids"))
                .is_ok_and(|p| p.lines().count() == 2)
        })
        .await;
        let pids = agent
            .read("workspace/pids")
            .lines()
            .map(|pid| pid.parse().unwrap())
            .collect::<Vec<i32>>();
        std::fs::remove_file(agent.path("workspace/pids")).unwrap();
        pids
    };
    let pids = listen(sh(script)).await;
    until("all are gone", || !pids.iter().any(|pid| lives(*pid))).await;

    let pids = listen(keyed("kept", script)).await;
    let stop = SignalRequest {
        key: "kept".into(),
        stop: true,
        ..SignalRequest::default()
    };
    assert!(pids.iter().all(|pid| lives(*pid)));
    let mut client = agent.client().await;
    client
        .execute(ExecRequest {
            grace_millis: 100,
            ..keyed("other", "sleep 1000")
        })
        .await
        .unwrap();
    let stop_other = SignalRequest {
        key: "other".into(),
        ..stop.clone()
    };
    assert!(
        client
            .signal_process(stop_other)
            .await
            .unwrap()
            .into_inner()
            .success
    );
    assert!(
        pids.iter().all(|pid| lives(*pid)),
        "only what was meant is stopped"
    );
    let kill = SignalRequest {
        key: "kept".into(),
        signal: "KILL".into(),
        ..SignalRequest::default()
    };
    assert!(
        client
            .signal_process(kill)
            .await
            .unwrap()
            .into_inner()
            .success
    );
    until("all are gone", || !pids.iter().any(|pid| lives(*pid))).await;
}

#[tokio::test]
async fn a_background_command_tells_its_process_id_and_lives_on() {
    let agent = Agent::sidecar();
    let told = execute(
        &agent,
        ExecRequest {
            background: true,
            ..sh("exec sleep 1000")
        },
    )
    .await;
    let pid = told.last.pid;
    assert!(lives(pid) && told.last.exit_code == 0);
    let term = SignalRequest {
        pid,
        signal: "term".into(),
        ..SignalRequest::default()
    };
    assert!(
        agent
            .client()
            .await
            .signal_process(term)
            .await
            .unwrap()
            .into_inner()
            .success
    );
    until("it is gone", || !lives(pid)).await;
    let told = execute(
        &agent,
        ExecRequest {
            background: true,
            command: vec!["no-such".into()],
            ..sh("")
        },
    )
    .await;
    assert_eq!(told.last.exit_code, 127);
}

#[tokio::test]
async fn signals_that_would_hit_everybody_are_refused() {
    let agent = Agent::sidecar();
    let mut client = agent.client().await;
    for (pid, signal) in [
        (-1, "KILL"),
        (0, "KILL"),
        (1, "KILL"),
        (4_000_000, "TERM"),
        (2, "NONSENSE"),
    ] {
        let request = SignalRequest {
            pid,
            signal: signal.into(),
            ..SignalRequest::default()
        };
        assert!(
            !client
                .signal_process(request)
                .await
                .unwrap()
                .into_inner()
                .success,
            "{pid} {signal}"
        );
    }
}

#[tokio::test]
async fn a_flood_arrives_whole() {
    let agent = Agent::sidecar();
    let told = execute(&agent, sh("head -c 50000000 /dev/zero | tr '\\0' y")).await;
    assert!(told.stdout.len() == 50_000_000 && told.stdout.iter().all(|byte| *byte == b'y'));
}
