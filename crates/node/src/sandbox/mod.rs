//! Sandboxes: what a pod's containers share, and the conversation with its keeper.
//!
//! A sandbox is a folder with a keeper in it. It is made before anybody needs it (see
//! [`pool`]), becomes a certain pod's when `sandbox.json` is written with the pod's uid,
//! and survives the node.

mod apart;
mod channel;
mod holder;
pub(crate) mod pool;
mod record;
mod zygote;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

pub(crate) use channel::Channel;
pub(crate) use record::{Owner, Record};
pub(crate) use zygote::Zygote;

use crate::keeper::message::{Ask, Ended, Failure, Given, Plan, Preparation, Stage, Tell};
use crate::keeper::packet;

/// A keeper answers at once; building a container takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox whose keeper runs.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) dir: PathBuf,
    pub(crate) record: Record,
}

/// A process the keeper runs for us, for as long as this is kept.
pub(crate) struct Command {
    channel: Channel,
    /// The master side of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

impl Command {
    /// Waits for its end.
    pub(crate) async fn ended(&self) -> io::Result<Ended> {
        loop {
            if let (Tell::Ended(ended), _) = self.channel.receive::<Tell>().await? {
                return Ok(ended);
            }
        }
    }
}

impl Sandbox {
    /// Its name, which is its folder's.
    pub(crate) fn id(&self) -> &str {
        &self.record.id
    }

    async fn ask(
        &self,
        question: &Ask,
        files: &[BorrowedFd<'_>],
    ) -> Result<(Tell, Vec<OwnedFd>, Channel), Failure> {
        let conversation = async {
            let channel = Channel::to_keeper(&self.dir)?;
            channel.send(question, files).await?;
            let (told, files) = channel.receive::<Tell>().await?;
            Ok::<_, io::Error>((told, files, channel))
        };
        match tokio::time::timeout(PATIENCE, conversation).await {
            Ok(Ok((Tell::Failed(failure), _, _))) => Err(failure),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(lost(&format!("the pod's keeper is gone: {error}"))),
            Err(_) => Err(lost("the pod's keeper does not answer")),
        }
    }

    /// Makes the sandbox a pod's.
    pub(crate) async fn prepare(&self, wanted: Preparation) -> Result<(), Failure> {
        self.ask(&Ask::Prepare(wanted), &[]).await.map(|_| ())
    }

    /// Starts a container; its program runs when this returns. The result is its first
    /// process, and since when it runs.
    pub(crate) async fn start(
        &self,
        container: &str,
        plan: &Plan,
    ) -> Result<(i32, Timestamp), Failure> {
        let plan = packet::to_memory(plan)
            .map_err(|error| lost(&format!("cannot write the plan: {error}")))?;
        let question = Ask::Start {
            container: container.to_owned(),
        };
        match self.ask(&question, &[plan.as_fd()]).await? {
            (Tell::Started { pid, since }, _, _) => Ok((pid, since)),
            (other, _, _) => Err(lost(&format!("unexpected answer: {other:?}"))),
        }
    }

    /// Runs a command in a container; it dies when the result is dropped.
    pub(crate) async fn exec(
        &self,
        container: &str,
        plan: &Plan,
        given: Given,
        streams: &[BorrowedFd<'_>],
    ) -> Result<Command, Failure> {
        let plan = packet::to_memory(plan)
            .map_err(|error| lost(&format!("cannot write the plan: {error}")))?;
        let mut files = vec![plan.as_fd()];
        files.extend_from_slice(streams);
        let question = Ask::Exec {
            container: container.to_owned(),
            given,
        };
        match self.ask(&question, &files).await? {
            (Tell::Started { .. }, mut files, channel) => Ok(Command {
                channel,
                terminal: files.pop(),
            }),
            (other, _, _) => Err(lost(&format!("unexpected answer: {other:?}"))),
        }
    }

    /// Joins the streams of a container, until the result is dropped.
    pub(crate) async fn attach(
        &self,
        container: &str,
        given: Given,
        streams: &[BorrowedFd<'_>],
    ) -> Result<Command, Failure> {
        let question = Ask::Attach {
            container: container.to_owned(),
            given,
        };
        let (_, _, channel) = self.ask(&question, streams).await?;
        Ok(Command {
            channel,
            terminal: None,
        })
    }

    /// Sends a signal to a container's first process.
    pub(crate) async fn signal(&self, container: &str, signal: i32) -> Result<(), Failure> {
        self.ask(
            &Ask::Signal {
                container: container.to_owned(),
                signal,
            },
            &[],
        )
        .await
        .map(|_| ())
    }

    /// Tells a container's terminal its size.
    pub(crate) async fn resize(
        &self,
        container: &str,
        width: u16,
        height: u16,
    ) -> Result<(), Failure> {
        self.ask(
            &Ask::Resize {
                container: container.to_owned(),
                width,
                height,
            },
            &[],
        )
        .await
        .map(|_| ())
    }

    /// Lets the keeper forget a container that has ended.
    pub(crate) async fn forget(&self, container: &str) -> Result<(), Failure> {
        self.ask(
            &Ask::Forget {
                container: container.to_owned(),
            },
            &[],
        )
        .await
        .map(|_| ())
    }

    /// Every container's state, and every change of it.
    pub(crate) async fn watch(&self) -> io::Result<Channel> {
        let channel = Channel::to_keeper(&self.dir)?;
        channel.send(&Ask::Watch, &[]).await?;
        Ok(channel)
    }

    /// Ends everything in the sandbox and its keeper.
    pub(crate) async fn leave(&self) {
        if self.ask(&Ask::Leave, &[]).await.is_err() {
            self.record.kill_keeper();
        }
    }

    /// Where a container's run keeps its files.
    pub(crate) fn container_dir(&self, container: &str) -> PathBuf {
        container_dir(&self.dir, container)
    }
}

/// Where a container's run keeps its files.
pub(crate) fn container_dir(sandbox: &Path, container: &str) -> PathBuf {
    sandbox.join(container)
}

/// Keeps how a run was started, for a node that comes back: commands in
/// the container are run by it.
pub(crate) fn write_plan(dir: &Path, plan: &Plan) -> io::Result<()> {
    let kept = Plan {
        view: None,
        log: None,
        ..plan.clone()
    };
    std::fs::write(dir.join("plan.json"), serde_json::to_vec(&kept)?)
}

/// Reads what [`write_plan`] kept.
pub(crate) fn read_plan(dir: &Path) -> io::Result<Plan> {
    Ok(serde_json::from_slice(&std::fs::read(
        dir.join("plan.json"),
    )?)?)
}

/// The ended runs of a container, as the keeper noted them.
pub(crate) fn ended_runs(sandbox: &Path, container: &str) -> Vec<(u32, Ended)> {
    let Ok(entries) = std::fs::read_dir(sandbox) else {
        return Vec::new();
    };
    let runs = entries.flatten().filter_map(|entry| {
        let id = entry.file_name().into_string().ok()?;
        let attempt = id
            .strip_prefix(container)?
            .strip_prefix('.')?
            .parse()
            .ok()?;
        let text = std::fs::read(crate::keeper::ended_file(sandbox, &id)).ok()?;
        Some((attempt, serde_json::from_slice(&text).ok()?))
    });
    runs.collect()
}

fn lost(message: &str) -> Failure {
    Failure {
        stage: Stage::Create,
        message: message.to_owned(),
        code: 128,
    }
}
