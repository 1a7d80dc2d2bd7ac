//! What a pod's status in the API tells of its life before this node looked after it:
//! the node was stopped, or killed, or the machine was.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodSpec, PodStatus};

use super::facts::{End, Phase, Run};
use super::spec::{ContainerKind, restarts};

/// Why a run is over whose end nobody saw.
const UNSEEN: &str = "the container was not there any more when the node started again";

/// What is known of a container's runs, as its status was last told.
///
/// Of a container that ran then nobody knows how it ended. Whoever finds it, alive or with
/// a note of its end, knows better and overwrites this.
pub(super) fn run(
    spec: &PodSpec,
    kind: ContainerKind,
    told: &ContainerStatus,
    now: Timestamp,
) -> Run {
    let mut run = Run {
        image_id: told.image_id.clone(),
        ..Run::default()
    };
    if told.container_id.is_none() {
        return run;
    }
    run.attempt = u32::try_from(told.restart_count).unwrap_or(0) + 1;
    let last = told
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .map(|ended| end(ended, now));
    let state = told.state.clone().unwrap_or_default();
    let ended = match (&state.running, &state.terminated) {
        (Some(running), _) => Some(End {
            code: 137,
            signal: None,
            reason: "ContainerStatusUnknown".to_owned(),
            message: UNSEEN.to_owned(),
            started: running.started_at.as_ref().map_or(now, |time| time.0),
            finished: now,
        }),
        (None, Some(terminated)) => Some(end(terminated, now)),
        // It waited to run again; its last end was its present one too.
        (None, None) => last.clone(),
    };
    run.last = last;
    if let Some(end) = ended {
        let again_at = restarts(spec, kind, end.code).then_some(now);
        run.phase = Phase::Ended { end, again_at };
    }
    run
}

fn end(ended: &ContainerStateTerminated, now: Timestamp) -> End {
    End {
        code: ended.exit_code,
        signal: ended.signal,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone().unwrap_or_default(),
        started: ended.started_at.as_ref().map_or(now, |time| time.0),
        finished: ended.finished_at.as_ref().map_or(now, |time| time.0),
    }
}

/// Why the pod as a whole is over, where its containers alone do not say so.
pub(super) fn over(status: &PodStatus) -> Option<(String, String)> {
    let reason = status.reason.clone().filter(|reason| !reason.is_empty())?;
    (status.phase.as_deref() == Some("Failed"))
        .then(|| (reason, status.message.clone().unwrap_or_default()))
}
