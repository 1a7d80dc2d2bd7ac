//! Running commands in containers, and joining their streams.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::OFlag;
use sandlot_cluster::kubelet::{Exit, KubeletError, Reader, Streams, TerminalSize, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::keeper::message::{Failure, Given, Plan, Stage};
use crate::keeper::set_size;
use crate::sandbox::{Command, Sandbox};
use crate::worker::view::ContainerView;

mod terminal;

use terminal::Terminal;

/// Output that is still in the pipe when the process has ended is waited for so long: a
/// child it left behind may hold the pipe open for ever.
const LAST_OUTPUT: std::time::Duration = std::time::Duration::from_millis(200);

/// The other ends of the streams that a process gets.
#[derive(Default)]
struct Pipes {
    stdin: Option<(OwnedFd, pipe::Sender)>,
    out: Option<(OwnedFd, pipe::Receiver)>,
    err: Option<(OwnedFd, pipe::Receiver)>,
}

impl Pipes {
    fn open(given: Given) -> std::io::Result<Pipes> {
        let mut pipes = Pipes::default();
        if given.stdin {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            pipes.stdin = Some((read, pipe::Sender::from_owned_fd(write)?));
        }
        for (wanted, end) in [
            (given.stdout, &mut pipes.out),
            (given.stderr, &mut pipes.err),
        ] {
            if wanted {
                let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
                // A burst does not have to wait for its reader.
                let _ = nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 18));
                *end = Some((write, pipe::Receiver::from_owned_fd(read)?));
            }
        }
        Ok(pipes)
    }

    fn theirs(&self) -> Vec<BorrowedFd<'_>> {
        let stdin = self.stdin.as_ref().map(|(fd, _)| fd.as_fd());
        let outs = [&self.out, &self.err]
            .into_iter()
            .flatten()
            .map(|(fd, _)| fd.as_fd());
        stdin.into_iter().chain(outs).collect()
    }

    /// Copies between the pipes and the client until both outputs have ended.
    async fn copy(self, stdin: Option<Reader>, out: Option<Writer>, err: Option<Writer>) {
        let feed = async {
            if let (Some((theirs, mut to)), Some(mut from)) = (self.stdin, stdin) {
                drop(theirs);
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
            // Whoever closed stdin may still read.
            std::future::pending::<()>().await;
        };
        let outputs = async { tokio::join!(forward(self.out, out), forward(self.err, err)) };
        tokio::select! {
            () = feed => {}
            _ = outputs => {}
        }
    }
}

async fn forward(from: Option<(OwnedFd, pipe::Receiver)>, to: Option<Writer>) {
    let (Some((theirs, mut from)), Some(mut to)) = (from, to) else {
        return;
    };
    drop(theirs);
    let mut buffer = vec![0u8; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Variables that begin so are told to a container's first process alone: an agent's key among
/// them would else be there for every command that anybody runs beside it.
const FIRST_PROCESS_ONLY: &str = "SANDLOT_";

fn plan_for(container: &ContainerView, command: Vec<String>, terminal: Option<(u16, u16)>) -> Plan {
    let env = container.plan.env.iter();
    let env = env.filter(|(name, _)| !name.starts_with(FIRST_PROCESS_ONLY));
    Plan {
        argv: command,
        env: env.cloned().collect(),
        terminal,
        stdin: false,
        log: None,
        view: None,
        folders: Vec::new(),
        ..(*container.plan).clone()
    }
}

/// Runs a command in a container with the client's streams.
pub(super) async fn exec(
    sandbox: &Arc<Sandbox>,
    container: &ContainerView,
    command: Vec<String>,
    streams: Streams,
) -> Result<Exit, KubeletError> {
    let result = if streams.tty {
        in_terminal(sandbox, container, command, streams).await
    } else {
        piped(sandbox, container, command, streams).await
    };
    match result {
        Ok(exit) => Ok(exit),
        // A command that cannot be run ends as it would in a shell.
        Err(failure) if failure.stage == Stage::Start && (126..128).contains(&failure.code) => {
            Err(KubeletError::Internal(format!(
                "Internal error occurred: error executing command in container: {failure}"
            )))
        }
        Err(failure) => Err(KubeletError::Internal(failure.message)),
    }
}

fn broken(error: std::io::Error) -> Failure {
    Failure {
        stage: Stage::Create,
        message: format!("cannot open the streams: {error}"),
        code: 128,
    }
}

async fn piped(
    sandbox: &Arc<Sandbox>,
    container: &ContainerView,
    command: Vec<String>,
    streams: Streams,
) -> Result<Exit, Failure> {
    let given = Given {
        stdin: streams.stdin.is_some(),
        stdout: streams.stdout.is_some(),
        stderr: streams.stderr.is_some(),
    };
    let pipes = Pipes::open(given).map_err(broken)?;
    let process = sandbox
        .exec(
            &container.id,
            &plan_for(container, command, None),
            given,
            &pipes.theirs(),
        )
        .await?;
    let mut copying = Box::pin(pipes.copy(streams.stdin, streams.stdout, streams.stderr));
    let mut ended = Box::pin(process.ended());
    tokio::select! {
        end = &mut ended => {
            let code = exit(end)?;
            let _ = tokio::time::timeout(LAST_OUTPUT, copying).await;
            Ok(code)
        }
        () = &mut copying => exit(ended.await),
    }
}

fn exit(ended: std::io::Result<crate::keeper::message::Ended>) -> Result<Exit, Failure> {
    ended
        .map(|ended| Exit { code: ended.code })
        .map_err(|_| Failure {
            stage: Stage::Create,
            message: "the container has ended, and the command with it".to_owned(),
            code: 137,
        })
}

async fn in_terminal(
    sandbox: &Arc<Sandbox>,
    container: &ContainerView,
    command: Vec<String>,
    mut streams: Streams,
) -> Result<Exit, Failure> {
    // The client's size usually comes right behind its request.
    let first = tokio::time::timeout(std::time::Duration::from_millis(20), streams.resize.recv())
        .await
        .ok()
        .flatten();
    let size = first.map_or((80, 24), |size| (size.width, size.height));
    let plan = plan_for(container, command, Some(size));
    let mut process = sandbox
        .exec(&container.id, &plan, Given::default(), &[])
        .await?;
    let master = process
        .terminal
        .take()
        .ok_or_else(|| broken(std::io::Error::other("no terminal was made")))?;
    let terminal = Terminal::new(master).map_err(broken)?;
    let mut ended = Box::pin(process.ended());
    let talk = talk(
        &terminal,
        streams.stdin,
        streams.stdout,
        &mut streams.resize,
    );
    let mut talk = Box::pin(talk);
    tokio::select! {
        end = &mut ended => {
            let code = exit(end)?;
            let _ = tokio::time::timeout(LAST_OUTPUT, talk).await;
            Ok(code)
        }
        () = &mut talk => exit(ended.await),
    }
}

async fn talk(
    terminal: &Terminal,
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    resize: &mut mpsc::Receiver<TerminalSize>,
) {
    let feed = async {
        if let Some(mut from) = stdin {
            let mut buffer = vec![0u8; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer).await {
                if terminal.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let sizes = async {
        while let Some(size) = resize.recv().await {
            let _ = set_size(terminal.as_fd(), size.width, size.height);
        }
        std::future::pending::<()>().await;
    };
    let show = async {
        let Some(mut to) = stdout else {
            return std::future::pending::<()>().await;
        };
        let mut buffer = vec![0u8; 16 * 1024];
        while let Ok(length @ 1..) = terminal.read(&mut buffer).await {
            if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::select! {
        () = feed => {}
        () = sizes => {}
        () = show => {}
    }
}

/// Joins the streams of a container's own process.
pub(super) async fn attach(
    sandbox: &Arc<Sandbox>,
    container: &ContainerView,
    mut streams: Streams,
) -> Result<Exit, KubeletError> {
    let given = Given {
        stdin: streams.stdin.is_some(),
        stdout: streams.stdout.is_some(),
        stderr: streams.stderr.is_some(),
    };
    let pipes = Pipes::open(given).map_err(|error| KubeletError::Internal(error.to_string()))?;
    let joined = sandbox.attach(&container.id, given, &pipes.theirs()).await;
    let joined: Command = joined.map_err(|failure| KubeletError::Internal(failure.message))?;
    let sizes = async {
        while let Some(size) = streams.resize.recv().await {
            let _ = sandbox.resize(&container.id, size.width, size.height).await;
        }
        std::future::pending::<()>().await;
    };
    let mut copying = Box::pin(pipes.copy(streams.stdin, streams.stdout, streams.stderr));
    let mut ended = Box::pin(joined.ended());
    let end = tokio::select! {
        end = &mut ended => {
            let _ = tokio::time::timeout(LAST_OUTPUT, copying).await;
            end
        }
        () = &mut copying => ended.await,
        () = sizes => return Ok(Exit { code: 0 }),
    };
    exit(end).map_err(|failure| KubeletError::Internal(failure.message))
}

/// Runs a command and keeps the beginning of what it writes, for probes and hooks.
pub(crate) async fn run_quietly(
    sandbox: &Arc<Sandbox>,
    container: &ContainerView,
    command: Vec<String>,
    most: usize,
) -> Result<(i32, String), String> {
    let given = Given {
        stdin: false,
        stdout: true,
        stderr: true,
    };
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| error.to_string())?;
    let mut output = pipe::Receiver::from_owned_fd(read).map_err(|error| error.to_string())?;
    let (plan, ends) = (
        plan_for(container, command, None),
        [write.as_fd(), write.as_fd()],
    );
    let process = sandbox.exec(&container.id, &plan, given, &ends).await;
    let process = process.map_err(|failure| failure.message)?;
    drop(write);
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    let mut ended = Box::pin(process.ended());
    let end = loop {
        tokio::select! {
            end = &mut ended => break end,
            read = output.read(&mut buffer) => match read {
                Ok(length @ 1..) => keep(&mut text, &buffer[..length], most),
                _ => break ended.await,
            },
        }
    };
    // What it wrote last may still be in the pipe.
    while let Ok(length @ 1..) = output.try_read(&mut buffer) {
        keep(&mut text, &buffer[..length], most);
    }
    let code = end.map_err(|_| "the container has ended".to_owned())?.code;
    Ok((code, String::from_utf8_lossy(&text).into_owned()))
}

fn keep(text: &mut Vec<u8>, more: &[u8], most: usize) {
    let room = most.saturating_sub(text.len());
    text.extend_from_slice(&more[..more.len().min(room)]);
}
