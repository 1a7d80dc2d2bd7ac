//! A pod's status in Kubernetes' words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::conditions;
use super::facts::{End, Facts, Held, Phase, Run};
use super::names::in_full;
use super::next::is_complete;
use super::spec::{ContainerKind, as_container, containers, ephemeral};

/// The status that these facts amount to.
pub(crate) fn status(facts: &Facts, now: Timestamp) -> PodStatus {
    let Some(spec) = &facts.pod.spec else {
        return PodStatus::default();
    };
    let before = facts.pod.status.clone().unwrap_or_default();
    let of = |init: bool| -> Vec<ContainerStatus> {
        containers(spec)
            .filter(|(kind, _)| (*kind != ContainerKind::Main) == init)
            .map(|(kind, container)| container_status(facts, spec, kind, container, now))
            .collect()
    };
    let (init, main) = (of(true), of(false));
    let put_in: Vec<ContainerStatus> = ephemeral(spec)
        .map(|one| {
            let container = as_container(one);
            let kind = ContainerKind::Ephemeral;
            container_status(facts, spec, kind, &container, now)
        })
        .collect();
    let phase = phase(facts, spec);
    let ip = facts.sandbox.clone().flatten();
    let (reason, message) = match &facts.over {
        Some((reason, message)) => (Some(reason.clone()), Some(message.clone())),
        None => (None, None),
    };
    PodStatus {
        conditions: Some(conditions(facts, spec, phase, &main, now)),
        container_statuses: Some(main),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ephemeral_container_statuses: (!put_in.is_empty()).then_some(put_in),
        host_ip: Some(facts.host_ip.clone()),
        host_ips: Some(vec![HostIP {
            ip: facts.host_ip.clone(),
        }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        phase: Some(phase.to_owned()),
        qos_class: Some(before.qos_class.unwrap_or_else(|| qos(spec).to_owned())),
        start_time: Some(Time(facts.since)),
        reason,
        message,
        observed_generation: facts.pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn phase(facts: &Facts, spec: &PodSpec) -> &'static str {
    if facts.over.is_some() {
        return "Failed";
    }
    if is_complete(facts, spec) && facts.runs.values().all(Run::is_quiet) {
        let failed = containers(spec)
            .filter(|(kind, _)| *kind != ContainerKind::Sidecar)
            .filter_map(|(_, container)| facts.run(&container.name)?.finished())
            .any(|end| end.code != 0);
        return if failed { "Failed" } else { "Succeeded" };
    }
    let begun = spec.containers.iter().any(|container| {
        facts
            .run(&container.name)
            .is_some_and(|run| run.attempt > 0 && !matches!(run.phase, Phase::Waiting))
    });
    if begun { "Running" } else { "Pending" }
}

fn container_status(
    facts: &Facts,
    spec: &PodSpec,
    kind: ContainerKind,
    container: &Container,
    now: Timestamp,
) -> ContainerStatus {
    let run = facts.run(&container.name).cloned().unwrap_or_default();
    let uid = facts.pod.metadata.uid.as_deref().unwrap_or_default();
    let id = |attempt: u32| {
        (attempt > 0).then(|| format!("sandlot://{uid}/{}/{}", container.name, attempt - 1))
    };
    let stated = state(facts, spec, (kind, container), &run, id(run.attempt), now);
    let previous = match (&run.phase, &run.last) {
        // While it waits to run again, its last end is both its present and its past.
        (
            Phase::Ended {
                end,
                again_at: Some(_),
            },
            _,
        ) => Some(terminated(end, id(run.attempt))),
        (_, Some(end)) => {
            let attempt = if matches!(run.phase, Phase::Running { .. } | Phase::Ended { .. }) {
                run.attempt - 1
            } else {
                run.attempt
            };
            Some(terminated(end, id(attempt)))
        }
        _ => None,
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: run.image_id.clone(),
        container_id: id(run.attempt),
        ready: match kind {
            ContainerKind::Init => run.finished().is_some_and(|end| end.code == 0),
            // Nobody is sent to one, so it is never said to be.
            ContainerKind::Ephemeral => false,
            _ => run.is_running() && run.ready,
        },
        started: (kind != ContainerKind::Ephemeral).then(|| run.is_running() && run.started),
        restart_count: run.attempt.saturating_sub(1) as i32,
        state: Some(stated),
        last_state: previous.map(|ended| ContainerState {
            terminated: Some(ended),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

fn state(
    facts: &Facts,
    spec: &PodSpec,
    (kind, container): (ContainerKind, &Container),
    run: &Run,
    id: Option<String>,
    now: Timestamp,
) -> ContainerState {
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    };
    if let (Phase::Held { .. } | Phase::Starting, Some(held)) = (&run.phase, &run.held) {
        return waiting(held.reason(now), Some(why_held(held, container, now)));
    }
    match &run.phase {
        Phase::Running { since } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*since)),
            }),
            ..ContainerState::default()
        },
        Phase::Ended {
            end,
            again_at: Some(_),
        } if !facts.is_ending() && end.finished < far(run) => {
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                run.backoff.words(),
                container.name,
                in_full(&facts.pod)
            );
            waiting("CrashLoopBackOff", Some(message))
        }
        Phase::Ended { end, .. } => ContainerState {
            terminated: Some(terminated(end, id)),
            ..ContainerState::default()
        },
        Phase::Waiting | Phase::Starting | Phase::Held { .. } => {
            let init_pending = kind == ContainerKind::Main
                && containers(spec).any(|(kind, container)| {
                    kind != ContainerKind::Main
                        && facts
                            .run(&container.name)
                            .is_some_and(|run| !is_past(kind, run))
                });
            waiting(
                if init_pending {
                    "PodInitializing"
                } else {
                    "ContainerCreating"
                },
                facts
                    .trouble
                    .clone()
                    .or_else(|| awaited(facts, spec, container)),
            )
        }
    }
}

/// Whom an ephemeral container waits for.
fn awaited(facts: &Facts, spec: &PodSpec, container: &Container) -> Option<String> {
    let mut all = ephemeral(spec).filter(|one| one.name == container.name);
    let target = all.next()?.target_container_name.clone()?;
    let run = facts.run(&target)?;
    let message = match (run.is_running(), run.finished().is_some()) {
        (true, _) => return None,
        (false, true) => format!("its target container {target:?} has ended for good"),
        (false, false) => format!("waits for its target container {target:?} to run"),
    };
    Some(message)
}

/// Why a container could not be started, as its state tells it.
fn why_held(held: &Held, container: &Container, now: Timestamp) -> String {
    let Held {
        reason, message, ..
    } = held;
    if held.reason(now) == reason {
        return message.clone();
    }
    let image = container.image.as_deref().unwrap_or_default();
    format!("Back-off pulling image {image:?}: {reason}: {message}")
}

/// The end of the wait of a container that is to run again.
fn far(run: &Run) -> Timestamp {
    match &run.phase {
        Phase::Ended {
            again_at: Some(at), ..
        } => *at,
        _ => Timestamp::MIN,
    }
}

/// Whether the containers after this one need not wait for it any more.
pub(super) fn is_past(kind: ContainerKind, run: &Run) -> bool {
    match kind {
        ContainerKind::Sidecar => run.started && run.is_running(),
        _ => run.finished().is_some_and(|end| end.code == 0),
    }
}

fn terminated(end: &End, id: Option<String>) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: end.code,
        signal: end.signal,
        reason: Some(end.reason.clone()),
        message: (!end.message.is_empty()).then(|| end.message.clone()),
        started_at: Some(Time(end.started)),
        finished_at: Some(Time(end.finished)),
        container_id: id,
    }
}

fn qos(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for (_, container) in containers(spec) {
        let resources = container.resources.clone().unwrap_or_default();
        let limits = resources.limits.unwrap_or_default();
        let requests = resources.requests.unwrap_or_default();
        any |= limits
            .keys()
            .chain(requests.keys())
            .any(|name| name == "cpu" || name == "memory");
        guaranteed &= ["cpu", "memory"].into_iter().all(|name| {
            limits
                .get(name)
                .is_some_and(|limit| requests.get(name).is_none_or(|request| request == limit))
        });
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
