//! What is known about a pod.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::backoff::Backoff;
use super::before;
use super::spec::{ContainerKind, containers, ephemeral, find, restarts};

/// Why a container without its image is held, at first.
pub(crate) const IMAGE_FAILED: &str = "ErrImagePull";
/// A container that waits for its image is said to be in back-off after this long.
const SAYS_BACK_OFF: SignedDuration = SignedDuration::from_secs(2);

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
    /// A taint of the node sends it away.
    pub(crate) sent_away: bool,
    /// Why its sandbox or volumes are not ready yet.
    pub(crate) trouble: Option<String>,
    /// The node stops: containers are ended, and killed at this time.
    pub(crate) leaving: Option<Timestamp>,
}

/// One container, over all its runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Runs begun; 0 before the first.
    pub(crate) attempt: u32,
    pub(crate) phase: Phase,
    /// How the run before this one ended.
    pub(crate) last: Option<End>,
    /// Why it could not be started when that was tried last.
    pub(crate) held: Option<Held>,
    pub(crate) backoff: Backoff,
    pub(crate) image_id: String,
    /// The startup probe has succeeded, or there is none.
    pub(crate) started: bool,
    /// The readiness probe succeeds, or there is none.
    pub(crate) ready: bool,
    /// A probe found it dead; it is ended and then perhaps run again.
    pub(crate) unhealthy: Option<Unhealthy>,
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
    /// It could not be started and is tried again; [`Run::held`] says why.
    Held {
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

/// Why a container could not be started, kept until it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) since: Timestamp,
}

/// What a probe has decided about a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unhealthy {
    /// Which probe, in a sentence.
    pub(crate) probe: &'static str,
    /// Seconds the container has to end by itself.
    pub(crate) grace: i64,
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
    /// What is known about a pod that was just taken on: nothing yet of a new one; of one
    /// from before what its status tells.
    pub(crate) fn new(pod: Pod, host_ip: String, now: Timestamp) -> Facts {
        let status = pod.status.clone().unwrap_or_default();
        let told: BTreeMap<&str, &ContainerStatus> = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .chain(&status.ephemeral_container_statuses)
            .flatten()
            .map(|told| (told.name.as_str(), told))
            .collect();
        let mut runs = BTreeMap::new();
        if let Some(spec) = &pod.spec {
            let made_with = containers(spec).map(|(kind, container)| (kind, &container.name));
            let put_in = ephemeral(spec).map(|one| (ContainerKind::Ephemeral, &one.name));
            for (kind, name) in made_with.chain(put_in) {
                let run = told.get(name.as_str());
                let run = run.map(|told| before::run(spec, kind, told, now));
                runs.insert(name.clone(), run.unwrap_or_default());
            }
        }
        Facts {
            since: status.start_time.as_ref().map_or(now, |time| time.0),
            sandbox: None,
            host_ip,
            runs,
            over: before::over(&status),
            sent_away: false,
            trouble: None,
            leaving: None,
            pod,
        }
    }

    /// The pod has changed in the API: somebody may have put containers into it.
    pub(crate) fn on_changed(&mut self, pod: Pod) {
        for one in pod.spec.iter().flat_map(ephemeral) {
            self.runs.entry(one.name.clone()).or_default();
        }
        self.pod = pod;
    }

    /// Whether somebody asked for its end.
    pub(crate) fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether its containers are to end, whatever they do.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_deleted() || self.over.is_some() || self.leaving.is_some()
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

    /// A container that was being started is not needed any more, and was not begun.
    pub(crate) fn on_not_started(&mut self, name: &str) {
        if let Some(run) = self.runs.get_mut(name) {
            run.phase = match run.last.clone() {
                Some(end) => Phase::Ended {
                    end,
                    again_at: None,
                },
                None => Phase::Waiting,
            };
        }
    }

    /// A container's program runs.
    pub(crate) fn on_running(&mut self, name: &str, since: Timestamp) {
        let Some((_, container)) = find(&self.pod, name) else {
            return;
        };
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
        (run.stopping, run.unhealthy, run.held) = (None, None, None);
    }

    /// A container could not be started and will be tried again.
    pub(crate) fn on_held(&mut self, name: &str, reason: &str, message: String, now: Timestamp) {
        let Some(run) = self.runs.get_mut(name) else {
            return;
        };
        let until = run.backoff.after_failure(now);
        run.phase = Phase::Held { until };
        run.held = Some(Held {
            reason: reason.to_owned(),
            message,
            since: now,
        });
    }

    /// A container's run ended; whether and when there is another one follows from the pod.
    pub(crate) fn on_end(&mut self, name: &str, end: End) {
        let Some(spec) = &self.pod.spec else { return };
        let Some((kind, _)) = find(&self.pod, name) else {
            return;
        };
        let again = restarts(spec, kind, end.code);
        let Some(run) = self.runs.get_mut(name) else {
            return;
        };
        let again_at = again.then(|| run.backoff.after(end.started, end.finished));
        run.phase = Phase::Ended { end, again_at };
        (run.started, run.ready) = (false, false);
        (run.stopping, run.unhealthy, run.held) = (None, None, None);
    }
}

impl Held {
    /// The reason in Kubernetes' words: a failure first, and then the waiting for another try.
    pub(crate) fn reason(&self, now: Timestamp) -> &str {
        match self.says_back_off_at() {
            Some(at) if now >= at => "ImagePullBackOff",
            _ => &self.reason,
        }
    }

    /// When the reason changes by itself.
    pub(crate) fn says_back_off_at(&self) -> Option<Timestamp> {
        (self.reason == IMAGE_FAILED).then(|| self.since + SAYS_BACK_OFF)
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
