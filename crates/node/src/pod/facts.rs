//! What is known about a pod.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::backoff::Backoff;
use super::spec::{containers, restarts};

/// Everything a decision about a pod rests on.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// As it was last seen in the API.
    pub(crate) pod: Pod,
    /// When this node took it on.
    pub(crate) since: Timestamp,
    /// Its sandbox is up, with this address.
    pub(crate) sandbox: Option<Option<String>>,
    pub(crate) host_ip: String,
    /// Each container by name.
    pub(crate) runs: BTreeMap<String, Run>,
    /// The node decided that the pod is over, and why (`DeadlineExceeded`, `Evicted` …).
    pub(crate) over: Option<(String, String)>,
    /// Why its sandbox or volumes are not ready yet.
    pub(crate) trouble: Option<String>,
}

/// One container, over all its runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Runs begun; 0 before the first.
    pub(crate) attempt: u32,
    pub(crate) phase: Phase,
    /// How the run before this one ended.
    pub(crate) last: Option<End>,
    pub(crate) backoff: Backoff,
    pub(crate) image_id: String,
    /// The startup probe has succeeded, or there is none.
    pub(crate) started: bool,
    /// The readiness probe succeeds, or there is none.
    pub(crate) ready: bool,
    /// A probe found it dead; it is ended with this grace and then run again.
    pub(crate) unhealthy: Option<i64>,
    /// The container is being ended.
    pub(crate) stopping: Option<Stopping>,
}

/// Where a container is in its present run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// Its image is fetched or it is being built.
    Starting,
    /// It could not be started and is tried again.
    Held {
        reason: String,
        message: String,
        until: Timestamp,
    },
    Running {
        since: Timestamp,
    },
    Ended {
        end: End,
        again_at: Option<Timestamp>,
    },
}

/// A container on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopping {
    /// When it is killed.
    pub(crate) deadline: Timestamp,
    pub(crate) killed: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

impl Facts {
    /// What is known about a pod that was just taken on.
    pub(crate) fn new(pod: Pod, host_ip: String, now: Timestamp) -> Facts {
        let names: Vec<String> = pod
            .spec
            .iter()
            .flat_map(containers)
            .map(|(_, container)| container.name.clone())
            .collect();
        let since = pod
            .status
            .as_ref()
            .and_then(|status| status.start_time.as_ref())
            .map_or(now, |time| time.0);
        Facts {
            pod,
            since,
            sandbox: None,
            host_ip,
            runs: names
                .into_iter()
                .map(|name| (name, Run::default()))
                .collect(),
            over: None,
            trouble: None,
        }
    }

    /// Whether somebody asked for its end.
    pub(crate) fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub(crate) fn run(&self, name: &str) -> Option<&Run> {
        self.runs.get(name)
    }

    /// A container is being started.
    pub(crate) fn on_start(&mut self, name: &str) {
        let Some(run) = self.runs.get_mut(name) else {
            return;
        };
        if let Phase::Ended { end, .. } = std::mem::take(&mut run.phase) {
            run.last = Some(end);
        }
        run.phase = Phase::Starting;
    }

    /// A container's program runs.
    pub(crate) fn on_running(&mut self, name: &str, since: Timestamp) {
        let probes = self
            .pod
            .spec
            .iter()
            .flat_map(containers)
            .find(|(_, container)| container.name == name);
        let Some((_, container)) = probes else { return };
        let (startup, readiness) = (
            container.startup_probe.is_some(),
            container.readiness_probe.is_some(),
        );
        let Some(run) = self.runs.get_mut(name) else {
            return;
        };
        run.phase = Phase::Running { since };
        run.started = !startup;
        run.ready = !startup && !readiness;
        (run.stopping, run.unhealthy) = (None, None);
    }

    /// A container could not be started and will be tried again.
    pub(crate) fn on_held(&mut self, name: &str, reason: &str, message: String, now: Timestamp) {
        let Some(run) = self.runs.get_mut(name) else {
            return;
        };
        let until = run.backoff.after_failure(now);
        run.phase = Phase::Held {
            reason: reason.to_owned(),
            message,
            until,
        };
    }

    /// A container's run ended; whether and when there is another one follows from the pod.
    pub(crate) fn on_end(&mut self, name: &str, end: End) {
        let Some(spec) = &self.pod.spec else { return };
        let Some((kind, _)) = containers(spec).find(|(_, container)| container.name == name) else {
            return;
        };
        let again = restarts(spec, kind, end.code);
        let Some(run) = self.runs.get_mut(name) else {
            return;
        };
        let again_at = again.then(|| run.backoff.after(end.started, end.finished));
        run.phase = Phase::Ended { end, again_at };
        (run.started, run.ready) = (false, false);
        (run.stopping, run.unhealthy) = (None, None);
    }
}

impl Run {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Ended for good.
    pub(crate) fn finished(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended {
                end,
                again_at: None,
            } => Some(end),
            _ => None,
        }
    }

    /// Neither running nor about to.
    pub(crate) fn is_quiet(&self) -> bool {
        !matches!(self.phase, Phase::Running { .. } | Phase::Starting)
    }
}
