//! Containers that an OCI runtime starts instead of the keeper.
//!
//! The keeper calls the runtime's program and does not wait for it; what the program leaves
//! behind (a container's first process, a command in it) becomes the keeper's own child, so
//! that streams, ends and everything else are as for containers that it forks itself.

mod call;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::answer::create;
use super::container::set_size;
use super::launch::bundle;
use super::message::{Failure, Given, OciRuntime, Plan, Tell};
use super::process::{Process, Purpose, given_ends, open_streams, take_streams};
use super::serve::Keeper;
use super::socket::report_pair;
use super::syscalls::fork_into;
pub(super) use call::Call;
use call::What;

/// So long each container may take to be forgotten when the whole pod goes.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// Ends of processes whose numbers nobody has told us yet.
const MOST_STRAYS: usize = 1024;

/// What a keeper remembers of runtimes.
#[derive(Default)]
pub(super) struct Runtimes {
    /// Of each container that one has started, or may have.
    of_containers: BTreeMap<String, OciRuntime>,
    /// Children that ended before their runtime said whose they are.
    strays: BTreeMap<i32, (i32, Option<i32>)>,
    calls: u64,
}

impl Keeper {
    /// Has the runtime start a container. Whoever asked is told when it has.
    pub(super) fn run_by_runtime(
        &mut self,
        number: u64,
        name: String,
        plan: &Plan,
        runtime: &OciRuntime,
        beside: Option<Pid>,
    ) -> Result<(), Failure> {
        let cannot = |error| create(format!("cannot start {name}: {error}"));
        // What the runtime leaves behind comes to us.
        nix::sys::prctl::set_child_subreaper(true).map_err(|error| cannot(error.into()))?;
        fs::create_dir_all(&runtime.bundle).map_err(cannot)?;
        let call = self
            .call(What::Run(name.clone()), runtime, plan.terminal)
            .map_err(cannot)?;
        let started: io::Result<_> = (|| {
            let (ours, theirs) = report_pair()?;
            let (ends, container) = open_streams(plan)?;
            let pid = fork_into(0)?;
            if pid == 0 {
                take_streams(&ends, plan.terminal.is_some());
                let words = call.words();
                bundle::become_starter(plan, &self.namespaces, beside, &words, theirs.as_fd());
            }
            Ok((pid, ours, container))
        })();
        let (pid, report, container) = started.map_err(cannot)?;
        let of_containers = &mut self.runtimes.of_containers;
        of_containers.insert(name.clone(), runtime.clone());
        self.containers.insert(name, container);
        self.follow_call(pid, call, number, report);
        Ok(())
    }

    /// Has the runtime run a command in a container.
    pub(super) fn exec_by_runtime(
        &mut self,
        number: u64,
        plan: &Plan,
        runtime: &OciRuntime,
        streams: Vec<OwnedFd>,
        given: Given,
    ) -> Result<(), Failure> {
        let cannot = |error: io::Error| create(format!("cannot run the command: {error}"));
        let call = self
            .call(What::Exec, runtime, plan.terminal)
            .map_err(cannot)?;
        let started: io::Result<_> = (|| {
            let whole = fs::read(runtime.bundle.join("config.json"))?;
            let process = bundle::command(&serde_json::from_slice(&whole)?, plan);
            fs::write(call.file("json"), process.to_string())?;
            let (ours, theirs) = report_pair()?;
            let ends = given_ends(streams, given);
            let pid = fork_into(0)?;
            if pid == 0 {
                take_streams(&ends, plan.terminal.is_some());
                bundle::become_caller(runtime, &call.words(), theirs.as_fd());
            }
            Ok((pid, ours))
        })();
        let (pid, report) = started.map_err(cannot)?;
        self.follow_call(pid, call, number, report);
        Ok(())
    }

    /// Sends a signal to a container that a runtime has started.
    pub(super) fn signal_by_runtime(
        &mut self,
        number: u64,
        container: &str,
        signal: i32,
    ) -> Result<(), Failure> {
        let Some(runtime) = self.runtimes.of_containers.get(container).cloned() else {
            return Err(create(format!("no runtime has started {container}")));
        };
        self.call_aside(number, What::Signal(signal), &runtime)
            .map_err(|error| create(format!("cannot signal {container}: {error}")))
    }

    /// Whether a runtime has started this container.
    pub(super) fn is_of_runtime(&self, container: &str) -> bool {
        self.runtimes.of_containers.contains_key(container)
    }

    /// Has the runtime forget a container. What it does not take away goes with the pod.
    pub(super) fn forget_by_runtime(&mut self, container: &str) {
        if let Some(runtime) = self.runtimes.of_containers.remove(container) {
            // No connection has this number, so nobody is told.
            let _ = self.call_aside(0, What::Delete, &runtime);
        }
    }

    fn call_aside(&mut self, number: u64, what: What, runtime: &OciRuntime) -> io::Result<()> {
        let call = self.call(what, runtime, None)?;
        let (ours, theirs) = report_pair()?;
        let pid = fork_into(0)?;
        if pid == 0 {
            bundle::become_caller(runtime, &call.words(), theirs.as_fd());
        }
        self.follow_call(pid, call, number, ours);
        Ok(())
    }

    fn call(
        &mut self,
        what: What,
        runtime: &OciRuntime,
        terminal: Option<(u16, u16)>,
    ) -> io::Result<Call> {
        self.runtimes.calls += 1;
        Call::new(what, runtime, terminal, self.runtimes.calls)
    }

    fn follow_call(&mut self, pid: libc::pid_t, call: Call, asked_by: u64, report: OwnedFd) {
        let process = Process {
            pid: Pid::from_raw(pid),
            purpose: Purpose::Call(Box::new(call)),
            asked_by,
            started: jiff::Timestamp::now(),
            launching: Some(report),
            terminal: None,
            failed: false,
        };
        self.processes.insert(pid, process);
    }

    /// The runtime hands over the terminal that it has made.
    pub(super) fn on_console(&mut self, pid: i32) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let Purpose::Call(call) = &mut process.purpose else {
            return;
        };
        let Some((master, size)) = call.take_terminal() else {
            return;
        };
        let _ = set_size(master.as_fd(), size.0, size.1);
        match call.starts().and_then(|name| self.containers.get_mut(name)) {
            Some(container) => container.take_terminal(master),
            None => process.terminal = Some(master),
        }
    }

    /// A runtime has done what it was called for, or says why not.
    pub(super) fn on_call_end(&mut self, pid: i32, code: i32, buffer: &mut [u8]) {
        self.on_console(pid);
        let Some(mut process) = self.processes.remove(&pid) else {
            return;
        };
        let Purpose::Call(call) = &process.purpose else {
            return;
        };
        let number = process.asked_by;
        if process.failed || code != 0 {
            let failure = call.complaint(code);
            let container = call.starts().map(str::to_owned);
            if !process.failed {
                self.tell(number, &Tell::Failed(failure), None);
            }
            if let Some(name) = container {
                self.containers.remove(&name);
                self.forget_by_runtime(&name);
            }
            return self.no_calls_no_strays();
        }
        let purpose = match call.what() {
            What::Signal(_) | What::Delete => return self.tell(number, &Tell::Done, None),
            What::Run(name) => Purpose::Container(name.clone()),
            What::Exec => Purpose::Command,
        };
        let Some(child) = call.started() else {
            let failure = create("the runtime does not say which process it started".to_owned());
            return self.tell(number, &Tell::Failed(failure), None);
        };
        process.pid = Pid::from_raw(child);
        process.purpose = purpose;
        self.on_child(process, buffer);
        self.no_calls_no_strays();
    }

    /// What a runtime has started is ours from here on.
    fn on_child(&mut self, mut process: Process, buffer: &mut [u8]) {
        let (pid, number, since) = (process.pid, process.asked_by, process.started);
        let terminal = process.terminal.take();
        let started = match &process.purpose {
            Purpose::Container(name) => Some(name.clone()),
            _ => None,
        };
        self.processes.insert(pid.as_raw(), process);
        let told = Tell::Started {
            pid: pid.as_raw(),
            since,
        };
        self.tell(number, &told, terminal.as_ref().map(AsFd::as_fd));
        match started {
            Some(name) => {
                if let Some(container) = self.containers.get_mut(&name) {
                    (container.pid, container.launched) = (pid, true);
                }
                self.announce(&name);
            }
            None => match self.connections.get_mut(&number) {
                Some(connection) => connection.command = Some(pid),
                // Whoever asked for it has gone.
                None => drop(kill(pid, Signal::SIGKILL)),
            },
        }
        if let Some((code, signal)) = self.runtimes.strays.remove(&pid.as_raw()) {
            self.on_end(pid, code, signal, buffer);
        }
    }

    /// A child has ended that nobody has told us of, or not yet.
    pub(super) fn on_stray(&mut self, pid: Pid, code: i32, signal: Option<i32>) {
        let expected = self.calls().next().is_some();
        let strays = &mut self.runtimes.strays;
        if expected && strays.len() < MOST_STRAYS {
            strays.insert(pid.as_raw(), (code, signal));
        }
    }

    fn no_calls_no_strays(&mut self) {
        if self.calls().next().is_none() {
            self.runtimes.strays.clear();
        }
    }

    /// The calls under way, by the runtime's process.
    pub(super) fn calls(&self) -> impl Iterator<Item = (i32, &Call)> {
        self.processes
            .iter()
            .filter_map(|(pid, process)| match &process.purpose {
                Purpose::Call(call) => Some((*pid, &**call)),
                _ => None,
            })
    }

    /// Kills runtimes that take too long.
    pub(super) fn end_late_calls(&self, now: Instant) {
        for (pid, call) in self.calls() {
            if call.deadline() <= now {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Kills every child, also those that a runtime which was killed has left behind.
    pub(super) fn kill_children(&self) {
        if self.runtimes.calls == 0 {
            return;
        }
        let list = format!("/proc/self/task/{}/children", nix::unistd::gettid());
        let children = fs::read_to_string(list).unwrap_or_default();
        for pid in children.split_whitespace().flat_map(str::parse) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// The pod goes: runtimes forget its containers, each within its time.
    pub(super) fn forget_all_by_runtime(&mut self) {
        let all = std::mem::take(&mut self.runtimes.of_containers);
        for runtime in all.into_values() {
            let Ok(call) = self.call(What::Delete, &runtime, None) else {
                continue;
            };
            let (Ok((_ours, theirs)), words) = (report_pair(), call.words()) else {
                continue;
            };
            match fork_into(0) {
                Ok(0) => bundle::become_caller(&runtime, &words, theirs.as_fd()),
                Ok(pid) => wait_for(Pid::from_raw(pid), Instant::now() + LAST_PATIENCE),
                Err(_) => {}
            }
        }
    }
}

fn wait_for(pid: Pid, deadline: Instant) {
    while let Ok(WaitStatus::StillAlive) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        if Instant::now() >= deadline {
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
