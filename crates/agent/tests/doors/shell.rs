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
