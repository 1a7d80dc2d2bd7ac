//! The keeper as a parent: what becomes of the processes it forked, and who is told.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::answer::create;
use super::message::{ContainerState, Ended, Tell};
use super::packet;
use super::process::Purpose;
use super::serve::Keeper;

impl Keeper {
    /// A child has either run its program (the socket closes) or says why it could not.
    pub(super) fn on_launch(&mut self, pid: i32) {
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
                    _ => process.terminal = master,
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
                match &process.purpose {
                    Purpose::Container(name) => drop(self.containers.remove(name)),
                    Purpose::Call(call) => {
                        if let Some(name) = call.starts() {
                            self.containers.remove(name);
                        }
                    }
                    Purpose::Command => {}
                }
                self.tell(number, &Tell::Failed(failure), None);
                self.forget_command(number);
            }
            Ok(None) => {
                process.launching = None;
                if matches!(process.purpose, Purpose::Call(_)) {
                    // The runtime runs; it is done when it ends.
                    return;
                }
                let (number, terminal) = (process.asked_by, process.terminal.take());
                let since = process.started;
                let name = match &process.purpose {
                    Purpose::Container(name) => Some(name.clone()),
                    _ => None,
                };
                self.tell(
                    number,
                    &Tell::Started { pid, since },
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

    pub(super) fn on_signals(&mut self, buffer: &mut [u8]) {
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

    pub(super) fn on_end(&mut self, pid: Pid, code: i32, signal: Option<i32>, buffer: &mut [u8]) {
        // A child that failed to launch has said so on its socket before it ended.
        if self
            .processes
            .get(&pid.as_raw())
            .is_some_and(|process| process.launching.is_some())
        {
            self.on_launch(pid.as_raw());
            self.on_launch(pid.as_raw());
        }
        if self.calls().any(|(call, _)| call == pid.as_raw()) {
            return self.on_call_end(pid.as_raw(), code, buffer);
        }
        let Some(process) = self.processes.remove(&pid.as_raw()) else {
            return self.on_stray(pid, code, signal);
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
            Purpose::Call(_) => {}
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

    pub(super) fn announce(&mut self, name: &str) {
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

    /// Ends every process of the pod and waits until they are gone.
    pub(super) fn kill_all(&mut self) {
        for pid in self.processes.keys() {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if let Some(reaper) = self.reaper.take() {
            let _ = kill(reaper.pid, Signal::SIGKILL);
        }
        let mut buffer = vec![0u8; 16 * 1024];
        loop {
            self.kill_children();
            let Ok(status) = waitpid(None, None) else {
                break;
            };
            match status {
                WaitStatus::Exited(pid, code) => self.on_end(pid, code, None, &mut buffer),
                WaitStatus::Signaled(pid, signal, _) => {
                    self.on_end(pid, 128 + signal as i32, Some(signal as i32), &mut buffer);
                }
                _ => {}
            }
        }
        self.forget_all_by_runtime();
    }
}

impl ContainerState {
    /// Its first process; 0 when it has ended.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            ContainerState::Running { pid, .. } => *pid,
            ContainerState::Ended(_) => 0,
        }
    }
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
