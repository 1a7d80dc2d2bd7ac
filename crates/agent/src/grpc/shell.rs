//! InteractiveShell: a shell on a real terminal, as long as the stream is open.
//!
//! What was begun in it ends with it, whatever signals it ignores. What was put into a session of
//! its own (`setsid`, a daemon, a `tmux` server) was meant to stay, and does until the sandbox is
//! given back.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandlot_api::agent::{ShellInput, ShellOutput, shell_input::Input};
use sandlot_supervisor::{Chunk, Launch, Memory, Reader, Run, Size, Stream};
use tonic::{Status, Streaming};

use super::text::{self, Carried};
use super::{broken, parse_signal};
use crate::agent::Agent;

/// The size of a terminal until the client tells its own.
const USUAL: Size = Size {
    rows: 24,
    columns: 80,
};

pub(super) async fn open(
    agent: &Arc<Agent>,
    mut input: Streaming<ShellInput>,
) -> Result<BoxStream<'static, Result<ShellOutput, Status>>, Status> {
    // What to run may come with the first message, but nobody has to send one first.
    let first = tokio::time::timeout(std::time::Duration::from_millis(200), input.message()).await;
    let first = first.ok().transpose()?.flatten();
    let launch = launch(agent, first.as_ref());
    let run = agent
        .supervisor
        .start(agent.next_key(), launch)
        .await
        .map_err(broken)?;
    let guard = Typing(
        tokio::spawn(type_in(run.clone(), first, input)),
        run.clone(),
    );
    let output = run.output(Stream::Stdout, 0);
    let session = Session {
        run,
        output,
        carried: Carried::default(),
        _guard: guard,
        over: false,
    };
    Ok(stream::unfold(session, |mut session| async {
        let frame = session.next().await?;
        Some((frame, session))
    })
    .boxed())
}

fn launch(agent: &Agent, first: Option<&ShellInput>) -> Launch {
    let (command, env, directory) = match first {
        Some(first) => (
            first.command.clone(),
            first.env.clone(),
            first.working_dir.as_str(),
        ),
        None => Default::default(),
    };
    let command = if command.is_empty() {
        vec![agent.environment.shell()]
    } else {
        command
    };
    let mut launch = Launch::new(command);
    launch.env = agent.environment.with(env);
    if !launch.env.iter().any(|(name, _)| name == "TERM") {
        launch.env.push(("TERM".into(), "xterm-256color".into()));
    }
    launch.cwd = Some(agent.directory(directory));
    launch.terminal = Some(first.and_then(size).unwrap_or(USUAL));
    launch.memory = Memory::Passing;
    launch
}

/// Takes what the client types, until it hangs up or the shell goes.
async fn type_in(run: Run, first: Option<ShellInput>, mut input: Streaming<ShellInput>) {
    let mut message = first;
    loop {
        if let Some(message) = message.take()
            && take(&run, message).await.is_err()
        {
            return;
        }
        match input.message().await {
            Ok(Some(next)) => message = Some(next),
            // The client sends no more but may still listen: as if the terminal said so.
            Ok(None) => {
                let _ = type_bytes(&run, b"\x04").await;
                return;
            }
            Err(_) => return run.hang_up(),
        }
    }
}

async fn take(run: &Run, message: ShellInput) -> std::io::Result<()> {
    if let (Some(size), Some(terminal)) = (size(&message), run.terminal()) {
        terminal.resize(size)?;
    }
    if !message.data_bytes.is_empty() {
        return type_bytes(run, &message.data_bytes).await;
    }
    match message.input {
        Some(Input::Data(text)) => type_bytes(run, text.as_bytes()).await,
        Some(Input::Signal(name)) => {
            if let Ok(signal) = parse_signal(&name) {
                signal_foreground(run, signal);
            }
            Ok(())
        }
        None => Ok(()),
    }
}

async fn type_bytes(run: &Run, bytes: &[u8]) -> std::io::Result<()> {
    match run.terminal() {
        Some(terminal) => terminal.write(bytes).await,
        None => Ok(()),
    }
}

/// Signals what runs in front, as a key pressed at the terminal would.
fn signal_foreground(run: &Run, signal: Signal) {
    let front = run
        .terminal()
        .and_then(|terminal| terminal.foreground())
        .filter(|group| *group > 1);
    if let Some(group) = front {
        // Gone meanwhile is as good as signalled.
        let _ = kill(Pid::from_raw(-group), signal);
    }
}

fn size(message: &ShellInput) -> Option<Size> {
    let rows = u16::try_from(message.rows).ok().filter(|rows| *rows > 0);
    let columns = u16::try_from(message.cols)
        .ok()
        .filter(|columns| *columns > 0);
    Some(Size {
        rows: rows?,
        columns: columns?,
    })
}

/// Ends the shell and stops listening to the client when the stream is dropped.
struct Typing(tokio::task::JoinHandle<()>, Run);

impl Drop for Typing {
    fn drop(&mut self) {
        self.0.abort();
        self.1.hang_up();
    }
}

struct Session {
    run: Run,
    output: Reader,
    carried: Carried,
    _guard: Typing,
    over: bool,
}

impl Session {
    async fn next(&mut self) -> Option<Result<ShellOutput, Status>> {
        while !self.over {
            match self.output.next().await {
                Ok(Some(Chunk::Bytes(bytes))) => {
                    let bytes = self.carried.whole(bytes);
                    if !bytes.is_empty() {
                        return Some(Ok(frame(bytes)));
                    }
                }
                Ok(Some(Chunk::Missing(bytes))) => {
                    let data = format!("\r\n[{bytes} bytes were not read in time]\r\n");
                    return Some(Ok(ShellOutput {
                        data,
                        ..ShellOutput::default()
                    }));
                }
                Ok(None) => return Some(Ok(self.last().await)),
                Err(error) => {
                    self.over = true;
                    return Some(Err(broken(error)));
                }
            }
        }
        None
    }

    /// The last words, and how the shell ended.
    async fn last(&mut self) -> ShellOutput {
        self.over = true;
        let ended = self.run.ended().await;
        ShellOutput {
            exit_code: ended.map_or(137, |outcome| outcome.end.code()),
            closed: true,
            ..frame(self.carried.rest())
        }
    }
}

fn frame(bytes: Bytes) -> ShellOutput {
    let (data, data_bytes) = text::split(bytes);
    ShellOutput {
        data,
        data_bytes,
        ..ShellOutput::default()
    }
}
