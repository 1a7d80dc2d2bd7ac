//! One call of a runtime's program: what it is told, the files it is given, and what came of it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::answer::create;
use super::super::launch::bundle;
use super::super::message::{Failure, OciRuntime};
use super::super::packet;
use super::super::socket::console_socket;
use crate::runtime::is_gvisor;

/// A runtime that takes longer is killed. The node waits a little longer for the keeper.
const PATIENCE: Duration = Duration::from_secs(50);

/// A call of a runtime that is under way. Its files go with it.
pub(in super::super) struct Call {
    what: What,
    runtime: OciRuntime,
    /// What the names of its files begin with.
    name: PathBuf,
    deadline: Instant,
    /// Where the runtime hands over the terminal, with the size it should have.
    console: Option<(OwnedFd, (u16, u16))>,
}

/// What a runtime is called for.
pub(super) enum What {
    Run(String),
    Exec,
    Signal(i32),
    Delete,
}

impl Call {
    pub(super) fn new(
        what: What,
        runtime: &OciRuntime,
        terminal: Option<(u16, u16)>,
        number: u64,
    ) -> io::Result<Call> {
        let mut call = Call {
            what,
            runtime: runtime.clone(),
            name: runtime.bundle.join(format!("call-{number}")),
            deadline: Instant::now() + PATIENCE,
            console: None,
        };
        if let Some(size) = terminal {
            let file = call.file("sock");
            let name = file.file_name().unwrap_or_default();
            call.console = Some((console_socket(&runtime.bundle, name)?, size));
        }
        Ok(call)
    }

    pub(super) fn what(&self) -> &What {
        &self.what
    }

    pub(super) fn file(&self, kind: &str) -> PathBuf {
        self.name.with_extension(kind)
    }

    /// The container that this call is to start.
    pub(in super::super) fn starts(&self) -> Option<&str> {
        match &self.what {
            What::Run(name) => Some(name),
            _ => None,
        }
    }

    /// Where its terminal comes from, until it is there.
    pub(in super::super) fn console(&self) -> Option<&OwnedFd> {
        self.console.as_ref().map(|(socket, _)| socket)
    }

    pub(in super::super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What the runtime is told.
    pub(super) fn words(&self) -> Vec<String> {
        let path = |path: PathBuf| path.display().to_string();
        let id = self.runtime.id.clone();
        let mut words = vec![
            "--root".to_owned(),
            path(self.runtime.state.clone()),
            "--log".to_owned(),
            path(self.file("log")),
            "--log-format".to_owned(),
            "json".to_owned(),
        ];
        if is_gvisor(&self.runtime.program) {
            // Its own network would take the pod's address for the first container alone: there
            // would be none for the next, nor for one that is started again.
            words.push("--network=host".to_owned());
        }
        let (verb, with) = match &self.what {
            What::Run(_) => ("run", Some(("--bundle", self.runtime.bundle.clone()))),
            What::Exec => ("exec", Some(("--process", self.file("json")))),
            What::Signal(signal) => {
                words.extend(["kill".to_owned(), id, signal.to_string()]);
                return words;
            }
            What::Delete => {
                words.extend(["delete", "--force"].map(str::to_owned));
                words.push(id);
                return words;
            }
        };
        words.extend([verb.to_owned(), "--detach".to_owned()]);
        words.extend(
            with.map(|(option, file)| [option.to_owned(), path(file)])
                .into_iter()
                .flatten(),
        );
        words.extend(["--pid-file".to_owned(), path(self.file("pid"))]);
        if self.console.is_some()
            && let Some(name) = self.file("sock").file_name()
        {
            // Names of sockets are short: this one is in the runtime's working directory.
            let name = name.to_string_lossy().into_owned();
            words.extend(["--console-socket".to_owned(), name]);
        }
        words.push(id);
        words
    }

    /// The terminal that the runtime has made, once it has come with it, and the size it should
    /// have.
    pub(super) fn take_terminal(&mut self) -> Option<(OwnedFd, (u16, u16))> {
        let (socket, size) = self.console.take()?;
        let master = accept_terminal(&socket).ok().flatten()?;
        Some((master, size))
    }

    /// Why the runtime did not do what it was called for.
    pub(super) fn complaint(&self, code: i32) -> Failure {
        if Instant::now() >= self.deadline {
            let name = self.runtime.program.display();
            return create(format!("{name} did not answer in {PATIENCE:?}"));
        }
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        bundle::complaint(&self.runtime.program, &log, code)
    }

    /// The process that it has started, as the machine numbers it.
    pub(super) fn started(&self) -> Option<i32> {
        let text = fs::read_to_string(self.file("pid")).ok()?;
        text.trim().parse().ok().filter(|pid| *pid > 1)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        for kind in ["log", "pid", "json", "sock"] {
            let _ = fs::remove_file(self.file(kind));
        }
    }
}

/// Takes the terminal that a runtime sends, if it has come to do so.
fn accept_terminal(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    use nix::sys::socket::{SockFlag, accept4, setsockopt, sockopt};
    use nix::sys::time::{TimeVal, TimeValLike as _};
    let fd = match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
        Ok(fd) => fd,
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // SAFETY: accept just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // It sends at once; one that does not is not waited for.
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
    packet::receive_file(socket.as_fd())
}
