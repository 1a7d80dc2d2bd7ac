//! What the node asks of a keeper, and doing it.

use std::os::fd::OwnedFd;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::message::{Ask, Failure, Plan, Stage, Tell};
use super::namespaces::Reaper;
use super::packet;
use super::process::{Beside, Process};
use super::serve::Keeper;

impl Keeper {
    pub(super) fn answer(
        &mut self,
        number: u64,
        ask: Ask,
        files: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
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
                if let Some(runtime) = &plan.runtime {
                    return self.exec_by_runtime(number, &plan, runtime, streams, given);
                }
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
                // What must end is not left to another program.
                if signal != Signal::SIGKILL && self.is_of_runtime(&container) {
                    return self.signal_by_runtime(number, &container, signal as i32);
                }
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
                    self.forget_by_runtime(&container);
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
            Some(found) if found.ended.is_none() && found.pid.as_raw() > 0 => Ok(found.pid),
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
            let users = self.namespaces.users.as_ref();
            let reaper = Reaper::fork(users.filter(|_| plan.runtime.is_some()))
                .map_err(|error| create(format!("cannot share processes: {error}")))?;
            self.reaper = Some(reaper);
        }
        let beside = match (&self.reaper, &plan.beside) {
            (Some(reaper), _) => Some(Beside::Reaper(reaper)),
            (None, Some(target)) => Some(Beside::Container(self.running(target)?)),
            (None, None) => None,
        };
        if let Some(runtime) = &plan.runtime {
            let beside = beside.map(|beside| beside.pid());
            return self.run_by_runtime(number, name, &plan, runtime, beside);
        }
        let (process, container) =
            Process::container(&name, &plan, &self.namespaces, beside, number)
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

pub(super) fn create(message: String) -> Failure {
    Failure {
        stage: Stage::Create,
        message,
        code: 128,
    }
}
