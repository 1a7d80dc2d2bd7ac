//! Starting the zygote and asking it for keepers.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::sync::Mutex;

use super::channel::Channel;
use super::holder::Holder;
use crate::keeper::ZYGOTE;
use crate::keeper::message::{Birth, FromZygote, Ground, ToZygote};

/// No keeper takes longer to be born on a machine that is alive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running zygote; it ends when this is dropped.
pub(crate) struct Zygote {
    channel: Arc<Mutex<Channel>>,
    child: std::sync::Mutex<Child>,
    /// Who keeps the pods' network when this ends, and where that is written down.
    holder: Option<(Holder, PathBuf)>,
}

impl Zygote {
    /// Starts `program` as the zygote: on the machine's network or, `apart` from it, on that
    /// of the node before this one if it is still there.
    pub(crate) async fn start(program: &Path, data_dir: &Path, apart: bool) -> io::Result<Zygote> {
        let before = Holder::find(data_dir);
        if !apart {
            if let Some(holder) = before {
                holder.end(data_dir);
            }
            return Zygote::spawn(program, Ground::Machine);
        }
        if let Some(holder) = before {
            let mut zygote = Zygote::spawn(program, Ground::HeldBy(holder.pid))?;
            let answers = zygote.socket(libc::AF_INET, libc::SOCK_DGRAM, 0).await;
            match answers {
                Ok(_) => {
                    zygote.holder = Some((holder, data_dir.to_owned()));
                    return Ok(zygote);
                }
                Err(error) => {
                    tracing::warn!(%error, "the pods' network cannot be entered again; a new one is made");
                    holder.end(data_dir);
                }
            }
        }
        let mut zygote = Zygote::spawn(program, Ground::Apart)?;
        let pid = zygote.hold(Holder::file(data_dir)).await?;
        zygote.holder = Some((Holder::note(pid, data_dir)?, data_dir.to_owned()));
        Ok(zygote)
    }

    /// Lets the pods' network go with the zygote.
    pub(crate) fn release_network(&self) {
        if let Some((holder, data_dir)) = &self.holder {
            holder.end(data_dir);
        }
    }

    fn spawn(program: &Path, ground: Ground) -> io::Result<Zygote> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let child = Command::new(program)
            .arg0(ZYGOTE)
            .arg(ground.word())
            // Keepers live for days and need nothing of the environment, which may hold secrets.
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()?;
        nix::fcntl::fcntl(
            &ours,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        Ok(Zygote {
            channel: Arc::new(Mutex::new(Channel::new(ours)?)),
            child: std::sync::Mutex::new(child),
            holder: None,
        })
    }

    /// The conversation goes on to its end even when whoever asked has gone: an answer that
    /// was left lying would be taken for that to the next question.
    async fn ask(&self, question: ToZygote) -> io::Result<(FromZygote, Vec<OwnedFd>)> {
        let channel = self.channel.clone().lock_owned();
        let conversation = tokio::spawn(async move {
            let channel = channel.await;
            channel.send(&question, &[]).await?;
            channel.receive::<FromZygote>().await
        });
        match tokio::time::timeout(PATIENCE, conversation).await {
            Ok(Ok(Ok((FromZygote::Failed(reason), _)))) => Err(io::Error::other(reason)),
            Ok(answer) => answer.map_err(io::Error::other)?,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the zygote does not answer",
            )),
        }
    }

    /// Forks a keeper, which listens when this returns.
    pub(crate) async fn keep(&self, birth: Birth) -> io::Result<i32> {
        match self.ask(ToZygote::Keep(birth)).await? {
            (FromZygote::Kept { pid }, _) => Ok(pid),
            (other, _) => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
        }
    }

    async fn hold(&self, file: PathBuf) -> io::Result<i32> {
        match self.ask(ToZygote::Hold(file)).await? {
            (FromZygote::Kept { pid }, _) => Ok(pid),
            (other, _) => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
        }
    }

    /// Lets the pods' network pass packets on between them.
    pub(crate) async fn pass_on(&self) -> io::Result<()> {
        match self.ask(ToZygote::PassOn).await? {
            (FromZygote::Done, _) => Ok(()),
            (other, _) => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
        }
    }

    /// Makes a socket in the network the pods live in.
    pub(crate) async fn socket(
        &self,
        family: i32,
        kind: i32,
        protocol: i32,
    ) -> io::Result<OwnedFd> {
        match self
            .ask(ToZygote::Socket {
                family,
                kind,
                protocol,
            })
            .await?
        {
            (FromZygote::Socket, mut files) if files.len() == 1 => Ok(files.remove(0)),
            (other, _) => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
