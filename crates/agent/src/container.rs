//! The container's own command, run by the agent in its place: started, waited for, restarted
//! after a reset; and all orphans reaped, as the container's first process must.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use sandlot_supervisor::with_heap;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

/// The signals that are handed on to the command. TERM and INT end an agent without one.
const HANDED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// The container's own command.
pub(crate) struct MainCommand {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    /// Its process id, 0 while there is none.
    pid: AtomicI32,
    /// How many resets want it not to run.
    held: watch::Sender<usize>,
}

/// Keeps the command from starting again.
pub(crate) struct HeldBack(Arc<MainCommand>);

impl Drop for HeldBack {
    fn drop(&mut self) {
        self.0.held.send_modify(|held| *held -= 1);
    }
}

impl MainCommand {
    /// A command with its environment, not yet started.
    pub(crate) fn new(argv: Vec<OsString>, env: Vec<(OsString, OsString)>) -> Arc<Self> {
        Arc::new(Self {
            argv,
            env,
            pid: AtomicI32::new(0),
            held: watch::Sender::new(0),
        })
    }

    /// When it ends from now on, that is not the container's end: it starts anew once the
    /// returned value is dropped.
    pub(crate) fn hold_back(self: &Arc<Self>) -> HeldBack {
        self.held.send_modify(|held| *held += 1);
        HeldBack(self.clone())
    }

    fn start(&self) -> io::Result<()> {
        let (program, arguments) = self.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(self.env.iter().map(|(n, v)| (n, v)));
        // A group of its own: what is typed at the agent's terminal is not meant twice.
        command.process_group(0);
        let child = with_heap(|| command.spawn())?;
        self.pid.store(child.id().cast_signed(), Ordering::Release);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid.load(Ordering::Acquire);
        if pid > 0 {
            // Gone meanwhile is as good as signalled.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Reaps every child of this process, hands signals on to the command, and returns the exit
/// code for the container when its life is over: the command's, or 0 for an agent without one
/// that was told to go.
pub(crate) async fn live(main: Option<Arc<MainCommand>>) -> io::Result<i32> {
    let mut children = signal(SignalKind::child())?;
    let mut signals = signals()?;
    if let Some(main) = &main {
        main.start()?;
    }
    loop {
        let signalled = tokio::select! {
            _ = children.recv() => None,
            signalled = signals.recv() => signalled,
        };
        match (signalled, &main) {
            (Some(signal), Some(main)) => main.signal(signal),
            (Some(Signal::SIGTERM | Signal::SIGINT), None) => return Ok(0),
            _ => {}
        }
        let Some(code) = reap(main.as_deref()) else {
            continue;
        };
        if let Some(main) = &main {
            main.pid.store(0, Ordering::Release);
            if *main.held.borrow() == 0 {
                return Ok(code);
            }
            // Its sender lives in `main`, so waiting cannot fail.
            let _ = main.held.subscribe().wait_for(|held| *held == 0).await;
            main.start()?;
        }
    }
}

/// Takes the status of every child that ended. The exit code of the command, if it was one.
fn reap(main: Option<&MainCommand>) -> Option<i32> {
    let mut code = None;
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => (pid, status),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return code,
            Ok(_) => continue,
        };
        if main.is_some_and(|main| main.pid.load(Ordering::Acquire) == pid.as_raw()) {
            code = Some(status);
        }
    }
}

/// The exit code with which a shell would report that a command could not be started.
pub(crate) fn code_of_failed_start(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    }
}

/// The signals to hand on, as they come. More than fit are the same ones again.
fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(HANDED_ON.len());
    for number in HANDED_ON {
        let mut stream = signal(SignalKind::from_raw(number as i32))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if sender.send(number).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// Makes this process the parent of whatever its descendants orphan, as the first process of
/// a container is anyway.
pub(crate) fn adopt_orphans() {
    // SAFETY: sets a flag of this process. Where the kernel refuses, orphans go to the first
    // process of the container, as they would without the agent.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}
