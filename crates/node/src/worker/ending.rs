//! Ending containers, and learning how and why they ended.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::launch::{id_of, parse_id};
use super::{Event, Tending, view_of};
use crate::keeper::message::Ended;
use crate::node::Shared;
use crate::pod::{ContainerKind, End, Phase, find, shares_processes};
use crate::probe;
use crate::sandbox::Sandbox;

/// A termination message is cut at this size.
const LONGEST_MESSAGE: u64 = 4096;
/// The end of a log that stands in for a termination message.
const LONGEST_FALLBACK: usize = 2048;

impl Tending {
    pub(super) fn signal(&mut self, name: String, signal: i32) {
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        let Some(attempt) = self.facts.run(&name).map(|run| run.attempt) else {
            return;
        };
        self.tasks.spawn(async move {
            // One that has just ended needs no signal.
            let _ = sandbox
                .signal(&id_of(&name, attempt.saturating_sub(1)), signal)
                .await;
            Event::Done
        });
    }

    /// Asks a container to end: its hook first, then its stop signal.
    pub(super) fn end_container(&mut self, name: String, deadline: Timestamp) {
        if let Some(probes) = self.probes.remove(&name) {
            probes.cancel();
        }
        let now = Timestamp::now();
        let unhealthy = self.facts.run(&name).and_then(|run| run.unhealthy);
        let why = match unhealthy {
            Some(found) => format!(
                "Container {name} failed {} probe, will be restarted",
                found.probe
            ),
            None => format!("Stopping container {name}"),
        };
        let (events, pod) = (&self.shared.events, &self.facts.pod);
        events.normal(pod, Some(&name), "Killing", &why);
        if deadline <= now {
            return self.signal(name, libc::SIGKILL);
        }
        let stop_signal = self
            .images
            .get(&name)
            .and_then(|image| image.config.stop_signal.clone());
        let stop_signal = stop_signal
            .and_then(|signal| signal_number(&signal))
            .unwrap_or(libc::SIGTERM);
        let hook = self
            .container(&name)
            .and_then(|container| container.lifecycle?.pre_stop);
        let (Some(sandbox), Some(view)) = (self.sandbox.clone(), view_of(&self.view, &name)) else {
            return;
        };
        let target = self.container(&name).map(|container| probe::Target {
            shared: self.shared.clone(),
            sandbox: sandbox.clone(),
            container,
            view: view.clone(),
            ip: self.facts.sandbox.clone().flatten(),
        });
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        let leaving = self.facts.leaving.is_some();
        self.tasks.spawn(async move {
            if let (Some(hook), Some(target)) = (hook, target) {
                let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
                if let Err(message) = target.run_hook(&hook, left).await {
                    shared
                        .events
                        .warning(&pod, Some(&name), "FailedPreStopHook", &message);
                }
            }
            // Whoever stops the node waits for nobody who would not hear of it.
            let in_vain = leaving && is_deaf(view.pid, stop_signal);
            let signal = if in_vain { libc::SIGKILL } else { stop_signal };
            let _ = sandbox.signal(&view.id, signal).await;
            Event::Done
        });
    }

    pub(super) fn on_ended(&mut self, id: &str, ended: &Ended) {
        let Some((name, attempt)) = parse_id(id) else {
            return;
        };
        let Some(run) = self.facts.run(&name) else {
            return;
        };
        if run.attempt == attempt && run.phase == Phase::Starting {
            self.early.insert(id.to_owned(), ended.clone());
            return;
        }
        if run.attempt != attempt + 1 || !run.is_running() {
            return;
        }
        // Before it is forgotten: its control group may go then, and what it counted.
        let end = explain(
            &self.facts.pod,
            self.sandbox.as_deref(),
            &self.shared,
            &name,
            id,
            ended,
        );
        self.clear_away(&name, id);
        self.end_of(&name, end);
    }

    /// Lets the keeper forget a run that has ended, and ends what it has left behind: where
    /// others see its processes, these do not end with the first of them.
    fn clear_away(&mut self, name: &str, id: &str) {
        let Some(sandbox) = self.sandbox.clone() else {
            return;
        };
        let pod = &self.facts.pod;
        let is_seen =
            shares_processes(pod) || matches!(find(pod, name), Some((ContainerKind::Ephemeral, _)));
        let group = self.shared.cgroups.sandbox(sandbox.id()).container(id);
        let id = id.to_owned();
        self.tasks.spawn(async move {
            // A keeper that cannot be asked any more has forgotten everything.
            let _ = sandbox.forget(&id).await;
            if is_seen {
                // What cannot be removed now goes with the sandbox.
                let _ = tokio::task::spawn_blocking(move || group.remove()).await;
            }
            Event::Done
        });
    }

    pub(super) fn end_of(&mut self, name: &str, end: End) {
        if let Some(probes) = self.probes.remove(name) {
            probes.cancel();
        }
        let failing = end.code != 0;
        self.facts.on_end(name, end);
        if let Some(Phase::Ended {
            again_at: Some(at), ..
        }) = self.facts.run(name).map(|run| &run.phase)
            && *at > Timestamp::now()
            && failing
        {
            let message = format!(
                "Back-off restarting failed container {name} in pod {}",
                crate::pod::names::in_full(&self.facts.pod)
            );
            self.shared
                .events
                .warning(&self.facts.pod, Some(name), "BackOff", &message);
        }
    }
}

/// Why and with what words a container ended.
pub(super) fn explain(
    pod: &Pod,
    sandbox: Option<&Sandbox>,
    shared: &Shared,
    name: &str,
    id: &str,
    ended: &Ended,
) -> End {
    let container = find(pod, name).map(|(_, container)| container);
    let mut message = String::new();
    let mut memory = false;
    if let Some(sandbox) = sandbox {
        memory = shared
            .cgroups
            .sandbox(sandbox.id())
            .container(id)
            .memory_kills()
            > 0;
        message = end_of_file(&sandbox.container_dir(id).join("termination-log"));
        let policy = container.and_then(|container| container.termination_message_policy);
        let fall_back = policy.as_deref() == Some("FallbackToLogsOnError");
        if message.is_empty() && fall_back && ended.code != 0 {
            message = crate::kubelet::last_words(&shared.logs.path(pod, id), LONGEST_FALLBACK);
        }
    }
    let reason = match ended.code {
        _ if memory && ended.code != 0 => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    End {
        code: ended.code,
        signal: None,
        reason: reason.to_owned(),
        message,
        started: ended.started,
        finished: ended.finished,
    }
}

/// The end of a termination message: a container may have written as much as it likes.
fn end_of_file(path: &Path) -> String {
    let read = || {
        let mut file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LONGEST_MESSAGE)))?;
        let mut words = Vec::new();
        file.take(LONGEST_MESSAGE).read_to_end(&mut words)?;
        Ok::<_, std::io::Error>(words)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Whether a container's first process would not notice this signal: the kernel gives the
/// first process of a process namespace only what that asked for.
fn is_deaf(pid: i32, signal: i32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let first = field("NSpid:").is_some_and(|pids| pids.split_whitespace().last() == Some("1"));
    let caught = field("SigCgt:").and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let bit = u32::try_from(signal - 1)
        .ok()
        .and_then(|place| 1u64.checked_shl(place));
    matches!((caught, bit), (Some(caught), Some(bit)) if first && caught & bit == 0)
}

fn signal_number(name: &str) -> Option<i32> {
    use std::str::FromStr as _;
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let full = if name.starts_with("SIG") {
        name.to_owned()
    } else {
        format!("SIG{name}")
    };
    nix::sys::signal::Signal::from_str(&full)
        .ok()
        .map(|signal| signal as i32)
}
