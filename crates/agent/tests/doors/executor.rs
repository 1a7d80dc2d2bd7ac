//! Sessions' code: what it returns, which files it leaves, and that it runs once.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sandlot_api::executor::{
    Ended, FilePart, PrepareRequest, ReadRequest, RunEvent, RunRequest, StopRequest,
    executor_client::ExecutorClient,
};
use tonic::{Code, Streaming, transport::Channel};

use crate::{Agent, LONG, until};

async fn executor(agent: &Agent) -> ExecutorClient<Channel> {
    // Once it answers at all it answers here too.
    drop(agent.client().await);
    let address = format!("http://127.0.0.1:{}", agent.port);
    ExecutorClient::connect(address).await.unwrap()
}

fn code(key: &str, language: &str, code: &str) -> RunRequest {
    RunRequest {
        key: key.to_owned(),
        language: language.to_owned(),
        code: code.to_owned(),
        ..RunRequest::default()
    }
}

#[derive(Debug, Default)]
struct Told {
    stdout: String,
    stderr: String,
    ended: Ended,
}

impl Told {
    fn result(&self) -> &str {
        std::str::from_utf8(&self.ended.result).unwrap()
    }

    fn changed(&self) -> Vec<&str> {
        let paths = self.ended.changed.iter();
        paths.map(|file| file.path.as_str()).collect()
    }
}

async fn next(events: &mut Streaming<RunEvent>) -> Option<RunEvent> {
    let event = tokio::time::timeout(LONG, events.message()).await;
    event.expect("in time").unwrap()
}

async fn run(agent: &Agent, request: RunRequest) -> Told {
    let started = executor(agent).await.run(request).await;
    let mut events = started.unwrap().into_inner();
    let mut told = Told::default();
    while let Some(event) = next(&mut events).await {
        told.stdout += std::str::from_utf8(&event.stdout).unwrap();
        told.stderr += std::str::from_utf8(&event.stderr).unwrap();
        if let Some(ended) = event.ended {
            told.ended = ended;
        }
    }
    told
}

#[tokio::test]
async fn a_handler_gets_its_event_and_its_value_is_not_among_what_it_prints() {
    let agent = Agent::sidecar();
    let source = "def handler(event):\n    print('{\"forged\": 1}')\n    return {'sum': event['a'] + 1, 'ä': [None, False, 0]}";
    let mut request = code("k", "python", source);
    request.event = r#"{"a": 1}"#.to_owned();
    let told = run(&agent, request).await;
    assert_eq!(told.stdout, "{\"forged\": 1}\n", "{told:?}");
    assert_eq!(told.result(), r#"{"sum": 2, "\u00e4": [null, false, 0]}"#);
    assert_eq!((told.ended.exit_code, told.ended.timed_out), (0, false));
}

#[tokio::test]
async fn a_run_that_was_called_off_on_its_way_ends_when_it_begins() {
    let agent = Agent::sidecar();
    for (key, language, endless) in [
        ("shell", "shell", "sleep 1000"),
        ("python", "python", "import time; time.sleep(1000)"),
    ] {
        let stop = StopRequest {
            key: key.to_owned(),
        };
        let stopped = executor(&agent).await.stop(stop).await;
        assert_eq!(stopped.unwrap_err().code(), Code::NotFound, "{language}");
        let told = run(&agent, code(key, language, endless)).await;
        assert!(told.ended.stopped, "{language}: {told:?}");
    }
}

#[tokio::test]
async fn values_that_json_has_no_word_for_do_not_spoil_the_rest() {
    let agent = Agent::sidecar();
    for (name, value, expected) in [
        (
            "nan",
            "[float('nan'), float('-inf'), 1.5]",
            "[null, null, 1.5]",
        ),
        ("nothing", "None", "null"),
        ("zero", "0", "0"),
        ("empty", "''", "\"\""),
    ] {
        let source = format!("def handler(event):\n    return {value}");
        assert_eq!(
            run(&agent, code(name, "python", &source)).await.result(),
            expected
        );
    }
    let told = run(
        &agent,
        code(
            "object",
            "python",
            "def handler(event):\n    return object()",
        ),
    )
    .await;
    assert!(
        told.ended.exit_code == 1 && told.stderr.contains("TypeError"),
        "{told:?}"
    );
}

#[tokio::test]
async fn an_error_shows_the_users_own_lines() {
    let agent = Agent::sidecar();
    let source = "def handler(event):\n    return 1 / 0\n";
    let told = run(&agent, code("k", "python", source)).await;
    assert_eq!(told.ended.exit_code, 1);
    assert!(told.stderr.contains("return 1 / 0"), "{}", told.stderr);
    assert!(
        told.stderr
            .ends_with("ZeroDivisionError: division by zero\n")
    );
    assert!(!told.stderr.contains("drive"), "{}", told.stderr);
    let told = run(&agent, code("none", "python", "x = 1")).await;
    assert!(told.ended.exit_code == 1 && told.stderr.contains("handler(event)"));
}

#[tokio::test]
async fn only_new_files_are_told_and_they_can_be_read() {
    let agent = Agent::sidecar();
    std::fs::write(agent.path("workspace/old"), "old").unwrap();
    let script = "mkdir out; echo new > out/new; rm old; echo x > .hidden";
    let told = run(&agent, code("k", "shell", script)).await;
    assert_eq!(told.changed(), ["out/new"]);
    assert_eq!(told.ended.removed, ["old"]);
    let path = "out/new".to_owned();
    let read = executor(&agent).await.read(ReadRequest { path }).await;
    let chunk = read.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(chunk.data, "new\n");
    assert!(
        run(&agent, code("again", "shell", "true"))
            .await
            .changed()
            .is_empty()
    );
}

#[tokio::test]
async fn a_file_is_written_whole_or_not_at_all() {
    let agent = Agent::sidecar();
    let part = |path: &str, data: &'static str, last| FilePart {
        path: path.to_owned(),
        data: data.into(),
        last,
    };
    let mut executor = executor(&agent).await;
    let whole = [part("a/b.txt", "hel", false), part("", "lo", true)];
    let written = executor.write(tokio_stream::iter(whole)).await.unwrap();
    assert_eq!(written.into_inner().size, 5);
    assert_eq!(agent.read("workspace/a/b.txt"), "hello");
    let torn = [part("a/b.txt", "torn", false)];
    assert!(executor.write(tokio_stream::iter(torn)).await.is_err());
    assert_eq!(agent.read("workspace/a/b.txt"), "hello");
    for path in ["../out", "/etc/out", "a/../../out", ""] {
        let refused = executor
            .write(tokio_stream::iter([part(path, "x", true)]))
            .await;
        assert_eq!(
            refused.unwrap_err().code(),
            Code::InvalidArgument,
            "{path:?}"
        );
    }
}

#[tokio::test]
async fn code_out_of_time_is_killed_with_all_it_started_and_its_output_stays() {
    let agent = Agent::sidecar();
    let mut request = code(
        "k",
        "shell",
        "echo before; (sleep 100 & echo $! > pid; wait)",
    );
    request.timeout_millis = 500;
    let told = run(&agent, request).await;
    assert!(
        told.ended.timed_out && told.stdout == "before\n",
        "{told:?}"
    );
    let pid: i32 = agent.read("workspace/pid").trim().parse().unwrap();
    until("its child is gone", || !crate::lives(pid)).await;
}

#[tokio::test]
async fn the_same_key_runs_once_also_after_a_crash_of_the_agent() {
    let mut agent = Agent::sidecar();
    let source = "import os, time\nopen('begun', 'a').write('x')\ndef handler(event):\n    while not os.path.exists('go'):\n        time.sleep(0.01)\n    return 'once'";
    let request = code("k", "python", source);
    let mut events = executor(&agent)
        .await
        .run(request.clone())
        .await
        .unwrap()
        .into_inner();
    until("it begins", || agent.path("workspace/begun").exists()).await;
    agent.kill();
    let broke = tokio::time::timeout(LONG, events.message())
        .await
        .expect("in time");
    assert!(!matches!(broke, Ok(Some(_))));
    agent.start_again();
    std::fs::write(agent.path("workspace/go"), "").unwrap();
    for request in [
        request,
        RunRequest {
            key: "k".to_owned(),
            attach_only: true,
            ..RunRequest::default()
        },
    ] {
        let told = run(&agent, request).await;
        assert_eq!(told.result(), "\"once\"", "{told:?}");
    }
    assert_eq!(agent.read("workspace/begun"), "x");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_it_runs() {
    let agent = Agent::sidecar();
    let outside = RunRequest {
        working_directory: "../..".to_owned(),
        ..code("k", "shell", "true")
    };
    let nowhere = RunRequest {
        working_directory: "nowhere".to_owned(),
        ..code("k", "shell", "true")
    };
    let unseen = RunRequest {
        attach_only: true,
        ..code("unseen", "shell", "true")
    };
    for (request, expected) in [
        (code("k", "cobol", "x"), Code::InvalidArgument),
        (code("a/b", "shell", "x"), Code::InvalidArgument),
        (code("", "shell", "x"), Code::InvalidArgument),
        (outside, Code::InvalidArgument),
        (nowhere, Code::FailedPrecondition),
        (unseen, Code::NotFound),
    ] {
        let refused = executor(&agent).await.run(request.clone()).await;
        assert_eq!(
            refused.map(drop).unwrap_err().code(),
            expected,
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn javascript_returns_its_value_too() {
    let has_node = std::process::Command::new("node").arg("--version").output();
    if has_node.is_err() {
        eprintln!("skipped: node is not installed");
        return;
    }
    let agent = Agent::sidecar();
    let mut request = code(
        "k",
        "javascript",
        "async function handler(event) { console.log('hi'); return { n: event.n + 1 }; }",
    );
    request.event = r#"{"n": 1}"#.to_owned();
    let told = tokio::time::timeout(Duration::from_secs(60), run(&agent, request))
        .await
        .unwrap();
    assert_eq!(
        (told.stdout.as_str(), told.result()),
        ("hi\n", r#"{"n":2}"#),
        "{told:?}"
    );
}

/// How the interpreter was started that runs this code: "-" where it waited, and else for its
/// result.
const HOW: &str = "open('/proc/self/cmdline').read().split('\\0')[-2][-1:].replace('k', '+')";

async fn prepare(agent: &Agent, env: &[(&str, &str)]) {
    let env = env
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let request = PrepareRequest {
        env: env.collect(),
        briefly: true,
    };
    executor(agent).await.prepare(request).await.unwrap();
}

#[tokio::test]
async fn code_is_given_to_the_interpreter_that_waits() {
    let agent = Agent::sidecar();
    prepare(&agent, &[]).await;
    let source = format!("def handler(event):\n    return {HOW}");
    let told = run(&agent, code("k", "python", &source)).await;
    assert_eq!(told.result(), "\"-\"", "{told:?}");
}

/// A folder of modules of which one says that an interpreter has loaded it while it waited.
fn library(folder: &Path) -> (String, PathBuf) {
    let [library, loaded] = ["lib", "loaded"].map(|name| folder.join(name));
    std::fs::create_dir(&library).unwrap();
    let module = format!("whose = 'library'\nopen({loaded:?}, 'w').close()");
    std::fs::write(library.join("json.py"), module).unwrap();
    (library.into_os_string().into_string().unwrap(), loaded)
}

#[tokio::test]
async fn an_interpreter_that_nobody_asked_for_yet_is_told_whose_it_is() {
    let source = format!(
        "import os, sys\ndef handler(event):\n    late = getattr(sys, 'late', None)\n    print({HOW}, os.environ.get('SESSION_ID'), os.popen('echo $SESSION_ID').read().strip(), os.environ.get('MORE'), late)"
    );
    let looks_for = |name: &str| format!("import os, sys\nsys.late = os.environ.get({name:?})");
    for (at_start, more, expected) in [
        ("", None, "- s s None None\n"),
        ("", Some("m"), "+ s s m None\n"),
        (&*looks_for("OTHER"), None, "- s s None None\n"),
        (&*looks_for("SESSION_ID"), None, "+ s s None s\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (library, loaded) = library(folder.path());
        std::fs::write(Path::new(&library).join("sitecustomize.py"), at_start).unwrap();
        let words = ["--plain", "--http-port", "0", "--python-ahead"];
        let agent = Agent::start(&words, &[("PYTHONPATH", &library)]);
        until("it waits", || loaded.exists()).await;
        let mut request = code("k", "python", &source);
        request.env = [("SESSION_ID".to_owned(), "s".to_owned())].into();
        let more = more.map(|more: &str| ("MORE".to_owned(), more.to_owned()));
        request.env.extend(more);
        let told = run(&agent, request).await;
        assert_eq!(told.stdout, expected, "{at_start} {told:?}");
    }
}

#[tokio::test]
async fn an_interpreter_that_waited_finds_what_came_meanwhile() {
    let late = "import builtins\nbuiltins.late = 'found'";
    let source = format!(
        "import json\ndef handler(event):\n    print({HOW}, globals().get('late', __builtins__.__dict__.get('late')), json.whose)"
    );
    for (path, content, expected) in [
        ("workspace/other", "", "- None library\n"),
        ("workspace/lib/sitecustomize.py", late, "+ found library\n"),
        ("workspace/json.py", "whose = 'mine'", "- None mine\n"),
    ] {
        let agent = Agent::sidecar();
        let (library, loaded) = library(&agent.path("workspace"));
        prepare(&agent, &[("PYTHONPATH", &library)]).await;
        until("it waits", || loaded.exists()).await;
        std::fs::write(agent.path(path), content).unwrap();
        let mut request = code("k", "python", &source);
        request.env = [("PYTHONPATH".to_owned(), library)].into();
        let told = run(&agent, request).await;
        assert_eq!(told.stdout, expected, "{path}: {told:?}");
    }
}
