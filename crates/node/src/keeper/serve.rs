//! The keeper: one small process for each pod. It holds the namespaces, is the parent of
//! the containers, writes their logs and remembers how they ended, so that the node can
//! be stopped, killed and replaced without the pod noticing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::container::{Container, Source};
use super::message::{Ask, Birth, ContainerState, Ended, Failure, Plan, Stage, Tell};
use super::namespaces::{Namespaces, fork_reaper};
use super::packet;
use super::process::{Process, Purpose};

/// More clients than this at one time are turned away.
const MOST_CONNECTIONS: usize = 256;

/// The keeper of one pod.
pub(super) struct Keeper {
    dir: PathBuf,
    listener: OwnedFd,
    signals: SignalFd,
    namespaces: Namespaces,
    /// The first process of a process namespace that all containers share.
    reaper: Option<Pid>,
    share_processes: bool,
    /// It is a certain pod's already; a node that was interrupted asks again.
    prepared: bool,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    containers: BTreeMap<String, Container>,
    processes: BTreeMap<i32, Process>,
    leaving: bool,
}

/// A client of the keeper.
struct Connection {
    socket: OwnedFd,
    watching: bool,
    /// The command that lives no longer than this connection.
    command: Option<Pid>,
    /// The container whose streams it joined.
    attached: Option<String>,
}

/// What woke the keeper.
enum Wake {
    Listener,
    Signals,
    Connection(u64),
    Launch(i32),
    Stream(String, Source),
}

impl Keeper {
    /// Makes the sandbox around the calling process and begins to listen.
    pub(super) fn start(birth: &Birth) -> io::Result<Keeper> {
        nix::unistd::setsid()?;
        let _ = nix::sys::prctl::set_name(c"sandlot-keeper");
        let null = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        nix::unistd::dup2_stderr(&null)?;
        std::env::set_current_dir("/")?;
        let mask = SigSet::from_iter([
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
        ]);
        // The zygote ignores its children; a keeper waits for its own.
        let default = nix::sys::signal::SigAction::new(
            nix::sys::signal::SigHandler::SigDfl,
            nix::sys::signal::SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the default action runs no code of ours.
        unsafe { nix::sys::signal::sigaction(Signal::SIGCHLD, &default) }?;
        let namespaces = Namespaces::make(birth)?;
        // From here on nobody in a pod may look into this process or its forks.
        nix::sys::prctl::set_dumpable(false)?;
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Keeper {
            listener: listen_in(&birth.dir)?,
            dir: birth.dir.clone(),
            signals,
            namespaces,
            reaper: None,
            share_processes: false,
            prepared: false,
            connections: BTreeMap::new(),
            next_connection: 0,
            containers: BTreeMap::new(),
            processes: BTreeMap::new(),
            leaving: false,
        })
    }

    /// Serves until asked to leave; the result is the exit code.
    pub(super) fn run(&mut self) -> i32 {
        let mut buffer = vec![0u8; 64 * 1024];
        while !self.leaving {
            if let Err(error) = self.turn(&mut buffer)
                && error.kind() != io::ErrorKind::Interrupted
            {
                break;
            }
        }
        self.kill_all();
        let _ = std::fs::remove_file(self.dir.join("keeper.sock"));
        0
    }

    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let woken = {
            let mut wakes = vec![Wake::Listener, Wake::Signals];
            let mut polled = vec![
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            for (number, connection) in &self.connections {
                wakes.push(Wake::Connection(*number));
                polled.push(PollFd::new(connection.socket.as_fd(), PollFlags::POLLIN));
            }
            for (pid, process) in &self.processes {
                if let Some(status) = &process.launching {
                    wakes.push(Wake::Launch(*pid));
                    polled.push(PollFd::new(status.as_fd(), PollFlags::POLLIN));
                }
            }
            for (name, container) in &self.containers {
                for (source, fd, events) in container.sources() {
                    wakes.push(Wake::Stream(name.clone(), source));
                    polled.push(PollFd::new(fd, events));
                }
            }
            poll(&mut polled, PollTimeout::NONE)?;
            let quiet = PollFlags::empty();
            let woken: Vec<Wake> = wakes
                .into_iter()
                .zip(&polled)
                .filter(|(_, polled)| polled.revents().is_some_and(|events| events != quiet))
                .map(|(wake, _)| wake)
                .collect();
            woken
        };
        for wake in woken {
            match wake {
                Wake::Listener => self.accept(),
                Wake::Signals => self.on_signals(buffer),
                Wake::Connection(number) => self.on_connection(number),
                Wake::Launch(pid) => self.on_launch(pid),
                Wake::Stream(name, source) => {
                    if let Some(container) = self.containers.get_mut(&name) {
                        container.read(source, buffer);
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        use std::os::fd::{AsRawFd, FromRawFd};
        let Ok(fd) = accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) else {
            return;
        };
        // SAFETY: accept just made this descriptor for us.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        if self.connections.len() >= MOST_CONNECTIONS {
            return;
        }
        self.next_connection += 1;
        let connection = Connection {
            socket,
            watching: false,
            command: None,
            attached: None,
        };
        self.connections.insert(self.next_connection, connection);
    }

    fn on_connection(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        match packet::receive::<Ask>(connection.socket.as_fd()) {
            Ok(Some((ask, files))) => {
                if let Err(failure) = self.answer(number, ask, files) {
                    self.tell(number, &Tell::Failed(failure), None);
                }
            }
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => {}
            Ok(None) | Err(_) => self.hang_up(number),
        }
    }

    /// A command lives no longer than whoever asked for it.
    fn hang_up(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        if let Some(pid) = connection.command {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Some(container) = connection
            .attached
            .and_then(|name| self.containers.get_mut(&name))
        {
            container.detach(number);
        }
    }

    fn answer(&mut self, number: u64, ask: Ask, files: Vec<OwnedFd>) -> Result<(), Failure> {
        match ask {
            Ask::Prepare(_) if self.prepared => self.tell(number, &Tell::Done, None),
            Ask::Prepare(wanted) => {
                self.share_processes = wanted.share_processes;
                self.namespaces
                    .prepare(&wanted)
                    .map_err(|error| create(format!("cannot prepare the pod: {error}")))?;
                self.prepared = true;
                self.tell(number, &Tell::Done, None);
            }
            Ask::Start { container } => self.start_container(number, container, files)?,
            Ask::Exec { container, given } => {
                let (plan, streams) = take_plan(files)?;
                let within = self.running(&container)?;
                let process =
                    Process::command(&plan, streams, given, within, &self.namespaces, number)
                        .map_err(|error| create(format!("cannot run the command: {error}")))?;
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.command = Some(process.pid);
                }
                self.processes.insert(process.pid.as_raw(), process);
            }
            Ask::Attach { container, given } => {
                self.running(&container)?;
                if let Some(found) = self.containers.get_mut(&container) {
                    found.attach(number, files, given);
                }
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.attached = Some(container);
                }
                self.tell(number, &Tell::Done, None);
            }
            Ask::Signal { container, signal } => {
                let pid = self.running(&container)?;
                let signal = Signal::try_from(signal)
                    .map_err(|_| create(format!("there is no signal {signal}")))?;
                kill(pid, signal)
                    .map_err(|error| create(format!("cannot signal {container}: {error}")))?;
                self.tell(number, &Tell::Done, None);
            }
            Ask::Resize {
                container,
                width,
                height,
            } => {
                if let Some(found) = self.containers.get(&container) {
                    found.resize(width, height);
                }
                self.tell(number, &Tell::Done, None);
            }
            Ask::Forget { container } => {
                if self
                    .containers
                    .get(&container)
                    .is_some_and(|found| found.ended.is_some())
                {
                    self.containers.remove(&container);
                }
                self.tell(number, &Tell::Done, None);
            }
            Ask::Watch => self.watch(number),
            Ask::Leave => {
                self.kill_all();
                self.tell(number, &Tell::Done, None);
                self.leaving = true;
            }
        }
        Ok(())
    }

    fn running(&self, container: &str) -> Result<Pid, Failure> {
        match self.containers.get(container) {
            Some(found) if found.ended.is_none() => Ok(found.pid),
            _ => Err(create(format!("container {container} is not running"))),
        }
    }

    fn start_container(
        &mut self,
        number: u64,
        name: String,
        files: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let (plan, _) = take_plan(files)?;
        if self.containers.contains_key(&name) {
            return Err(create(format!("container {name} was started before")));
        }
        if self.share_processes && self.reaper.is_none() {
            let pid = fork_reaper()
                .map_err(|error| create(format!("cannot share processes: {error}")))?;
            self.reaper = Some(Pid::from_raw(pid));
        }
        let (process, container) =
            Process::container(&name, &plan, &self.namespaces, self.reaper, number)
                .map_err(|error| create(format!("cannot start {name}: {error}")))?;
        self.processes.insert(process.pid.as_raw(), process);
        self.containers.insert(name, container);
        Ok(())
    }

    fn watch(&mut self, number: u64) {
        let states: Vec<Tell> = self
            .containers
            .iter()
            .filter(|(_, container)| container.launched)
            .map(|(name, container)| Tell::State {
                container: name.clone(),
                state: container.state(),
            })
            .collect();
        for state in states {
            self.tell(number, &state, None);
        }
        self.tell(number, &Tell::Current, None);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.watching = true;
        }
    }

    /// A child has either run its program (the socket closes) or says why it could not.
    fn on_launch(&mut self, pid: i32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let Some(status) = &process.launching else {
            return;
        };
        match packet::receive::<Tell>(status.as_fd()) {
            Ok(Some((Tell::Started { .. }, files))) => {
                // Not the end of the launch: the terminal made on the way.
                let master = files.into_iter().next();
                match &process.purpose {
                    Purpose::Container(name) => {
                        if let (Some(container), Some(master)) =
                            (self.containers.get_mut(name), master)
                        {
                            container.take_terminal(master);
                        }
                    }
                    Purpose::Command => process.terminal = master,
                }
            }
            Ok(Some((told, _))) => {
                let failure = match told {
                    Tell::Failed(failure) => failure,
                    other => create(format!("unexpected word from a launch: {other:?}")),
                };
                let number = process.asked_by;
                process.launching = None;
                process.failed = true;
                if let Purpose::Container(name) = &process.purpose {
                    self.containers.remove(name);
                }
                self.tell(number, &Tell::Failed(failure), None);
                self.forget_command(number);
            }
            Ok(None) => {
                process.launching = None;
                let (number, terminal) = (process.asked_by, process.terminal.take());
                let name = match &process.purpose {
                    Purpose::Container(name) => Some(name.clone()),
                    Purpose::Command => None,
                };
                self.tell(
                    number,
                    &Tell::Started { pid },
                    terminal.as_ref().map(AsFd::as_fd),
                );
                if let Some(name) = name {
                    if let Some(container) = self.containers.get_mut(&name) {
                        container.launched = true;
                    }
                    self.announce(&name);
                }
            }
            Err(_) => {}
        }
    }

    fn forget_command(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.command = None;
        }
    }

    fn on_signals(&mut self, buffer: &mut [u8]) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo != Signal::SIGCHLD as u32 {
                self.leaving = true;
            }
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, code, signal) = match status {
                WaitStatus::Exited(pid, code) => (pid, code, None),
                WaitStatus::Signaled(pid, signal, _) => {
                    (pid, 128 + signal as i32, Some(signal as i32))
                }
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            self.on_end(pid, code, signal, buffer);
        }
    }

    fn on_end(&mut self, pid: Pid, code: i32, signal: Option<i32>, buffer: &mut [u8]) {
        // A child that failed to launch has said so on its socket before it ended.
        if self
            .processes
            .get(&pid.as_raw())
            .is_some_and(|process| process.launching.is_some())
        {
            self.on_launch(pid.as_raw());
            self.on_launch(pid.as_raw());
        }
        let Some(process) = self.processes.remove(&pid.as_raw()) else {
            return;
        };
        if process.failed {
            return;
        }
        let ended = Ended {
            code,
            signal,
            started: process.started,
            finished: jiff::Timestamp::now(),
        };
        match process.purpose {
            Purpose::Command => {
                self.tell(process.asked_by, &Tell::Ended(ended), None);
                self.forget_command(process.asked_by);
            }
            Purpose::Container(name) => {
                if let Some(container) = self.containers.get_mut(&name) {
                    container.drain(buffer);
                    container.ended = Some(ended.clone());
                    for number in container.detach_all() {
                        self.tell(number, &Tell::Ended(ended.clone()), None);
                    }
                }
                remember(&self.dir, &name, &ended);
                self.announce(&name);
            }
        }
    }

    fn announce(&mut self, name: &str) {
        let Some(container) = self.containers.get(name) else {
            return;
        };
        let told = Tell::State {
            container: name.to_owned(),
            state: container.state(),
        };
        let watchers: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.watching)
            .map(|(number, _)| *number)
            .collect();
        for number in watchers {
            self.tell(number, &told, None);
        }
    }

    /// A client that does not read is cut off; it can come back and ask for all states.
    fn tell(&mut self, number: u64, told: &Tell, file: Option<BorrowedFd<'_>>) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        if packet::send(connection.socket.as_fd(), told, &files).is_err() {
            self.hang_up(number);
        }
    }

    /// Ends every process of the pod and waits until they are gone.
    fn kill_all(&mut self) {
        for pid in self.processes.keys() {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if let Some(reaper) = self.reaper.take() {
            let _ = kill(reaper, Signal::SIGKILL);
        }
        let mut buffer = vec![0u8; 16 * 1024];
        while let Ok(status) = waitpid(None, None) {
            match status {
                WaitStatus::Exited(pid, code) => self.on_end(pid, code, None, &mut buffer),
                WaitStatus::Signaled(pid, signal, _) => {
                    self.on_end(pid, 128 + signal as i32, Some(signal as i32), &mut buffer);
                }
                _ => {}
            }
        }
    }
}

impl ContainerState {
    /// Whether it has ended.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match self {
            ContainerState::Ended(ended) => Some(ended),
            ContainerState::Running { .. } => None,
        }
    }
}

fn create(message: String) -> Failure {
    Failure {
        stage: Stage::Create,
        message,
        code: 128,
    }
}

fn take_plan(files: Vec<OwnedFd>) -> Result<(Plan, Vec<OwnedFd>), Failure> {
    let mut files = files.into_iter();
    let plan = files
        .next()
        .ok_or_else(|| create("a start without a plan".to_owned()))?;
    let plan = packet::from_memory(plan)
        .map_err(|error| create(format!("the plan cannot be read: {error}")))?;
    Ok((plan, files.collect()))
}

/// The file that says how a container ended, for a node that comes back after its keeper is gone.
pub(crate) fn ended_file(sandbox: &Path, container: &str) -> PathBuf {
    sandbox.join(container).join("ended.json")
}

fn remember(sandbox: &Path, container: &str, ended: &Ended) {
    let path = ended_file(sandbox, container);
    let fresh = path.with_extension("new");
    if let Ok(text) = serde_json::to_vec(ended)
        && std::fs::write(&fresh, text).is_ok()
    {
        let _ = std::fs::rename(fresh, path);
    }
}

/// Unix socket names are short and data folders may be deep: go through the open folder.
pub(crate) fn socket_in(dir: &Path) -> io::Result<(std::fs::File, UnixAddr)> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(dir)?;
    let name = format!("/proc/self/fd/{}/keeper.sock", folder.as_raw_fd());
    Ok((folder, UnixAddr::new(name.as_str())?))
}

fn listen_in(dir: &Path) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let _ = std::fs::remove_file(dir.join("keeper.sock"));
    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let (_folder, address) = socket_in(dir)?;
    bind(listener.as_raw_fd(), &address)?;
    listen(&listener, Backlog::new(128)?)?;
    Ok(listener)
}

/// A pair of sockets for a child to report on, closed when its program runs.
pub(super) fn report_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::sys::socket::socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Pipes read without waiting.
pub(super) fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}
