//! InteractiveShell.

use sandlot_api::agent::{ShellInput, ShellOutput, shell_input::Input};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{Agent, LONG, lives, until};

struct Shell {
    keys: mpsc::Sender<ShellInput>,
    output: Streaming<ShellOutput>,
    heard: String,
}

async fn open(agent: &Agent, first: ShellInput) -> Shell {
    let (keys, typed) = mpsc::channel(8);
    keys.send(first).await.unwrap();
    let output = agent
        .client()
        .await
        .interactive_shell(ReceiverStream::new(typed))
        .await
        .unwrap()
        .into_inner();
    Shell {
        keys,
        output,
        heard: String::new(),
    }
}

fn command(words: &[&str]) -> ShellInput {
    ShellInput {
        command: words.iter().map(ToString::to_string).collect(),
        ..ShellInput::default()
    }
}

impl Shell {
    async fn send(&self, input: Input) {
        self.keys
            .send(ShellInput {
                input: Some(input),
                ..ShellInput::default()
            })
            .await
            .unwrap();
    }

    async fn type_line(&self, line: &str) {
        self.send(Input::Data(format!("{line}\n"))).await;
    }

    async fn hear(&mut self, word: &str) {
        while !self.heard.contains(word) {
            let frame = tokio::time::timeout(LONG, self.output.message())
                .await
                .unwrap()
                .unwrap();
            let frame = frame.unwrap_or_else(|| panic!("over before {word:?}: {}", self.heard));
            assert!(!frame.closed, "closed before {word:?}: {}", self.heard);
            self.heard.push_str(&frame.data);
        }
        self.heard.clear();
    }

    async fn exit_code(&mut self) -> i32 {
        loop {
            let frame = tokio::time::timeout(LONG, self.output.message())
                .await
                .unwrap()
                .unwrap()
                .expect("a last frame");
            if frame.closed {
                return frame.exit_code;
            }
        }
    }
}

#[tokio::test]
async fn a_shell_has_a_terminal_of_the_clients_size_and_tells_its_exit_code() {
    let agent = Agent::sidecar();
    let size = |rows, cols| ShellInput {
        resize: true,
        rows,
        cols,
        ..ShellInput::default()
    };
    let mut shell = open(&agent, size(30, 100)).await;
    shell.type_line("test -t 0 && stty size").await;
    shell.hear("30 100").await;
    shell.keys.send(size(31, 101)).await.unwrap();
    shell.type_line("stty size").await;
    shell.hear("31 101").await;
    shell.type_line("exit 42").await;
    assert_eq!(shell.exit_code().await, 42);
}

#[tokio::test]
async fn an_interrupt_reaches_what_runs_in_front() {
    let agent = Agent::sidecar();
    let mut shell = open(&agent, ShellInput::default()).await;
    // Who says so is in front by then; a signal that meets the shell between two commands is
    // nobody's.
    shell
        .type_line("sh -c 'echo be\"\"gun; exec sleep 1000'")
        .await;
    shell.hear("begun").await;
    shell.send(Input::Signal("SIGINT".to_owned())).await;
    shell.type_line("echo still there").await;
    shell.hear("still there").await;
    shell.type_line("exit").await;
    shell.exit_code().await;
}

#[tokio::test]
async fn a_client_that_goes_takes_the_shell_along() {
    let agent = Agent::sidecar();
    let mut shell = open(
        &agent,
        command(&["sh", "-c", "echo pid=$$.; exec sleep 1000"]),
    )
    .await;
    let mut text = String::new();
    while !text.contains(".\r\n") {
        text.push_str(&shell.output.message().await.unwrap().unwrap().data);
    }
    let pid: i32 = text.split(['=', '.']).nth(1).unwrap().parse().unwrap();
    assert!(lives(pid));
    drop(shell);
    until("the shell is gone", || !lives(pid)).await;
}

/// Prints the numbers of three processes that ignore what a hang-up sends: one in the shell's own
/// job, one of a session of its own, and one that is the shell's child's child.
const LEFT_BEHIND: &str = r#"
    sh -c 'trap "" HUP TERM; while :; do sleep 0.05; done' & first=$!
    setsid sh -c 'trap "" HUP TERM; echo $$ > "$0"; while :; do sleep 0.05; done' "$PWD/own" &
    (nohup sh -c 'sh -c "echo \$\$ > $0; while :; do sleep 0.05; done"' "$PWD/far" > /dev/null 2>&1 &)
    until test -s "$PWD/own" && test -s "$PWD/far"; do sleep 0.02; done
    echo "pids $first $(cat "$PWD/own") $(cat "$PWD/far") ready."
"#;

async fn left_behind(agent: &Agent) -> (Shell, [i32; 3]) {
    let script = format!("cd $(mktemp -d); {LEFT_BEHIND} read end; exit 0");
    let mut shell = open(agent, command(&["sh", "-c", &script])).await;
    let mut text = String::new();
    while !text.contains("ready.") {
        let frame = tokio::time::timeout(LONG, shell.output.message()).await;
        text.push_str(&frame.unwrap().unwrap().unwrap().data);
    }
    let numbers: Vec<i32> = text.split_whitespace().flat_map(str::parse).collect();
    (shell, numbers.try_into().unwrap())
}

#[tokio::test]
async fn what_was_begun_in_a_shell_ends_with_it_and_what_left_its_session_stays() {
    let agent = Agent::sidecar();
    // The shell says that it is done, its client goes away, and the shell is killed.
    for end in ["exit", "client", "kill"] {
        let (mut shell, [job, own, far]) = left_behind(&agent).await;
        assert!([job, own, far].into_iter().all(lives), "{end}");
        match end {
            "exit" => {
                shell.type_line("").await;
                assert_eq!(shell.exit_code().await, 0);
            }
            "kill" => {
                shell.send(Input::Signal("SIGKILL".to_owned())).await;
                shell.exit_code().await;
            }
            _ => drop(shell),
        }
        until("what the shell began is gone", || {
            !lives(job) && !lives(far)
        })
        .await;
        assert!(lives(own), "{end}: what left the session went with it");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(own), nix::sys::signal::SIGKILL).unwrap();
    }
}

#[tokio::test]
async fn a_flood_through_a_terminal_comes_in_few_messages_and_no_character_is_torn() {
    let agent = Agent::sidecar();
    let flood = "stty -opost; yes äöü | head -c 7000000";
    let mut shell = open(&agent, command(&["sh", "-c", flood])).await;
    let (mut bytes, mut frames) = (0, 0);
    loop {
        let frame = tokio::time::timeout(LONG, shell.output.message()).await;
        let frame = frame.unwrap().unwrap().expect("a last frame");
        assert!(frame.data_bytes.is_empty() && !frame.data.contains('\u{fffd}'));
        bytes += frame.data.len();
        frames += 1;
        if frame.closed {
            break;
        }
    }
    assert_eq!(bytes, 7_000_000);
    println!("{} bytes a message", bytes / frames);
}
