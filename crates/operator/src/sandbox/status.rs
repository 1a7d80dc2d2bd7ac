//! What a sandbox's status says, and when it is worth a write.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::arl::{SandboxPhase, SandboxStatus};
use sandlot_decide::{expiry::later, sandbox::Verdict};

use crate::{
    index::{PodEntry, SandboxEntry},
    world::{World, condition},
};

/// The end of a short task is written into the sandbox when nothing else has been for so long.
const TELL_ACTIVITY: Duration = Duration::from_secs(1);
/// The status as it should be now.
pub(super) fn status(
    world: &World,
    entry: &SandboxEntry,
    pod: Option<&PodEntry>,
    verdict: &Verdict,
    allocated: Option<Timestamp>,
    now: Timestamp,
) -> SandboxStatus {
    let old = &entry.status;
    let tasks_can_run = matches!(verdict.phase, SandboxPhase::Ready | SandboxPhase::Bound);
    let conditions = old.conditions.as_deref().unwrap_or_default();
    let ready = condition(
        conditions,
        "Ready",
        tasks_can_run,
        verdict.reason,
        &verdict.message,
        entry.generation,
        now,
    );
    SandboxStatus {
        phase: Some(verdict.phase),
        pod_name: pod
            .map(|pod| pod.key.name.to_string())
            .or_else(|| old.pod_name.clone()),
        pod_ip: pod
            .and_then(|pod| pod.ip.as_deref())
            .map(str::to_owned)
            .or_else(|| old.pod_ip.clone()),
        work_dir: pod
            .map(|_| world.settings.agent.work_dir.clone())
            .or_else(|| old.work_dir.clone()),
        // Statuses carry whole seconds, so that what is read back compares equal.
        allocated_at: old
            .allocated_at
            .clone()
            .or_else(|| allocated.map(whole_second)),
        last_task_time: entry.last_ended.map(whole_second),
        observed_generation: entry.generation,
        conditions: Some(vec![ready]),
    }
}

fn whole_second(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// When a status is to be written.
pub(super) enum Telling {
    Now,
    At(Timestamp),
    Nothing,
}

/// Whether a status differs from the written one in something that cannot wait.
pub(super) fn worth_telling(
    old: &SandboxStatus,
    new: &SandboxStatus,
    ended: Option<Timestamp>,
    now: Timestamp,
) -> Telling {
    let essence = |status: &SandboxStatus| {
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready");
        let reason =
            ready.map(|condition| (condition.reason.clone(), condition.observed_generation));
        (
            status.phase,
            status.pod_name.clone(),
            status.pod_ip.clone(),
            reason,
        )
    };
    if essence(old) != essence(new) {
        return Telling::Now;
    }
    if old.last_task_time != new.last_task_time {
        return match ended.map(|ended| later(ended, TELL_ACTIVITY)) {
            Some(when) if when > now => Telling::At(when),
            _ => Telling::Now,
        };
    }
    let words = |status: &SandboxStatus| {
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready");
        ready.map(|condition| condition.message.clone())
    };
    // How far a pod is changes the words a few times a minute at most: its pool sees to that.
    if words(old) != words(new) {
        return Telling::Now;
    }
    Telling::Nothing
}
