//! What to do next.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodSpec;

use super::facts::{Facts, Held, Phase, Run};
use super::spec::{ContainerKind, containers, ephemeral, grace};

/// Something to do for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Take a sandbox and prepare the volumes.
    MakeSandbox,
    Start {
        container: String,
    },
    /// Ask a container to end, and kill it at the deadline.
    Stop {
        container: String,
        deadline: Timestamp,
    },
    Kill {
        container: String,
    },
    /// The pod has overstayed: it fails with this reason.
    GiveUp {
        reason: &'static str,
        message: String,
    },
    /// All containers have ended for good; let go of everything but the logs.
    Rest,
    /// All containers have ended and the pod was deleted: remove it and everything of it.
    Remove,
}

/// What to do now, and when to look again without being woken by an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) acts: Vec<Act>,
    pub(crate) wake: Option<Timestamp>,
}

impl Next {
    fn wake_by(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

/// Decides what a pod needs now.
pub(crate) fn next(facts: &Facts, now: Timestamp) -> Next {
    let mut next = Next::default();
    let Some(spec) = &facts.pod.spec else {
        next.acts.push(Act::Remove);
        return next;
    };
    if facts.is_ending() || is_complete(facts, spec) {
        end(facts, spec, now, &mut next);
        return next;
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let deadline = facts.since + SignedDuration::from_secs(seconds.clamp(0, 1 << 40));
        if now >= deadline {
            let message =
                "Pod was active on the node longer than the specified deadline".to_owned();
            next.acts.push(Act::GiveUp {
                reason: "DeadlineExceeded",
                message,
            });
            return next;
        }
        next.wake_by(deadline);
    }
    if facts.sandbox.is_none() {
        next.acts.push(Act::MakeSandbox);
        return next;
    }
    tend(facts, now, &mut next);
    for container in ephemeral(spec) {
        // Whoever wants to see a container's processes is started when there are some.
        let target = container.target_container_name.as_deref();
        if target.is_none_or(|target| facts.run(target).is_some_and(Run::is_running)) {
            start_if_due(facts, &container.name, now, &mut next);
        }
    }
    if initialise(facts, spec, now, &mut next) {
        for container in &spec.containers {
            start_if_due(facts, &container.name, now, &mut next);
        }
    }
    next
}

/// Whether every main container has ended for good, or an init container has failed for good.
pub(crate) fn is_complete(facts: &Facts, spec: &PodSpec) -> bool {
    let finished = |name: &str| facts.run(name).and_then(Run::finished);
    let init_failed = containers(spec).any(|(kind, container)| {
        kind == ContainerKind::Init && finished(&container.name).is_some_and(|end| end.code != 0)
    });
    init_failed
        || spec
            .containers
            .iter()
            .all(|container| finished(&container.name).is_some())
}

/// Ends containers that their probes gave up on, and kills those past their deadline.
fn tend(facts: &Facts, now: Timestamp, next: &mut Next) {
    for (name, run) in &facts.runs {
        if !run.is_running() {
            continue;
        }
        match (run.stopping, run.unhealthy) {
            (Some(stopping), _) if stopping.killed => {}
            (Some(stopping), _) if now >= stopping.deadline => next.acts.push(Act::Kill {
                container: name.clone(),
            }),
            (Some(stopping), _) => next.wake_by(stopping.deadline),
            (None, Some(unhealthy)) => {
                let grace = unhealthy.grace.clamp(0, 1 << 40);
                let deadline = now + SignedDuration::from_secs(grace);
                next.acts.push(Act::Stop {
                    container: name.clone(),
                    deadline,
                });
            }
            (None, None) => {}
        }
    }
}

/// Starts init containers in their turn; true when the main ones may start.
fn initialise(facts: &Facts, spec: &PodSpec, now: Timestamp, next: &mut Next) -> bool {
    for (kind, container) in containers(spec) {
        let Some(run) = facts.run(&container.name) else {
            continue;
        };
        match kind {
            ContainerKind::Main | ContainerKind::Ephemeral => return true,
            ContainerKind::Init if run.finished().is_some_and(|end| end.code == 0) => {}
            ContainerKind::Init => {
                start_if_due(facts, &container.name, now, next);
                return false;
            }
            ContainerKind::Sidecar => {
                start_if_due(facts, &container.name, now, next);
                // Once the main containers have begun, a sidecar that restarts holds nobody up.
                let begun = spec
                    .containers
                    .iter()
                    .any(|main| facts.run(&main.name).is_some_and(|run| run.attempt > 0));
                let there = run.is_running() && run.started;
                if !there && !begun {
                    return false;
                }
            }
        }
    }
    true
}

fn start_if_due(facts: &Facts, name: &str, now: Timestamp, next: &mut Next) {
    let Some(run) = facts.run(name) else { return };
    let due = match &run.phase {
        Phase::Waiting => now,
        Phase::Held { until } => {
            let says = run.held.as_ref().and_then(Held::says_back_off_at);
            if let Some(at) = says.filter(|at| now < *at) {
                next.wake_by(at);
            }
            *until
        }
        Phase::Ended {
            again_at: Some(at), ..
        } => *at,
        Phase::Starting | Phase::Running { .. } | Phase::Ended { again_at: None, .. } => return,
    };
    if now >= due {
        next.acts.push(Act::Start {
            container: name.to_owned(),
        });
    } else {
        next.wake_by(due);
    }
}

/// Ends a pod: the main and ephemeral containers together, then the sidecars from the last to
/// the first.
fn end(facts: &Facts, spec: &PodSpec, now: Timestamp, next: &mut Next) {
    let seconds = if facts.is_deleted() || facts.over.is_none() {
        grace(&facts.pod)
    } else {
        grace(&facts.pod).min(30)
    };
    let mut deadline = now + SignedDuration::from_secs(seconds);
    if let Some(leaving) = facts.leaving {
        deadline = deadline.min(leaving.max(now));
    }
    if let Some(asked) = &facts.pod.metadata.deletion_timestamp {
        // It tells whole seconds: what was rounded off still belongs to the pod.
        let asked = asked.0 + SignedDuration::from_secs(1);
        deadline = deadline.min(asked.max(now));
    }
    let order: Vec<_> = containers(spec).collect();
    let (sidecars, others): (Vec<_>, Vec<_>) = order
        .into_iter()
        .partition(|(kind, _)| *kind == ContainerKind::Sidecar);
    let others = others.iter().map(|(_, container)| &container.name);
    let mut all_quiet = true;
    for name in others.chain(ephemeral(spec).map(|one| &one.name)) {
        all_quiet &= stop(facts, name, now, deadline, next);
    }
    for (_, container) in sidecars.iter().rev() {
        if !all_quiet {
            return;
        }
        all_quiet = stop(facts, &container.name, now, deadline, next);
    }
    if all_quiet {
        next.acts.push(if facts.is_deleted() {
            Act::Remove
        } else {
            Act::Rest
        });
    }
}

/// Brings a container to its end; true when it is there.
fn stop(facts: &Facts, name: &str, now: Timestamp, deadline: Timestamp, next: &mut Next) -> bool {
    let Some(run) = facts.run(name) else {
        return true;
    };
    if run.is_running() {
        match run.stopping {
            None => next.acts.push(Act::Stop {
                container: name.to_owned(),
                deadline,
            }),
            Some(stopping) if stopping.killed => {}
            Some(stopping) => {
                // A second, more impatient deletion shortens the wait.
                let deadline = stopping.deadline.min(deadline);
                if now >= deadline {
                    next.acts.push(Act::Kill {
                        container: name.to_owned(),
                    });
                } else {
                    next.wake_by(deadline);
                }
            }
        }
    }
    run.is_quiet()
}
