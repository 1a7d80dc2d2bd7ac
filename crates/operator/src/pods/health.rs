//! How a pod is, read from its status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use sandlot_decide::pool::{Health, Trouble, TroubleKind};

/// How a pod is. Trouble that was there before keeps its beginning.
pub(crate) fn of(pod: &v1::Pod, before: Option<&Health>, now: Timestamp) -> Health {
    let Some(status) = &pod.status else {
        return Health::Starting;
    };
    if let Some((kind, message)) = trouble(status) {
        let since = match before {
            Some(Health::Failing(old)) if old.kind == kind => old.since,
            _ => now,
        };
        return Health::Failing(Trouble {
            kind,
            since,
            message,
        });
    }
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready" && condition.status == "True");
    match (ready, before) {
        (None, _) => Health::Starting,
        (Some(_), Some(Health::Ready { since })) => Health::Ready { since: *since },
        (Some(condition), _) => Health::Ready {
            since: condition
                .last_transition_time
                .as_ref()
                .map_or(now, |time| time.0),
        },
    }
}

/// When the last of a pod's containers began, and how often any of them has been started anew.
pub(crate) fn last_start(pod: &v1::Pod) -> Option<(Timestamp, u32)> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let began = containers.iter().filter_map(|container| {
        let running = container.state.as_ref()?.running.as_ref()?;
        running.started_at.as_ref().map(|time| time.0)
    });
    let restarts = containers.iter().map(|container| container.restart_count);
    let restarts = restarts.max().and_then(|most| u32::try_from(most).ok());
    Some((began.max()?, restarts.unwrap_or(0)))
}

/// What a pod that has ended for good said last; nothing while it may still run.
pub(crate) fn last_words(pod: &v1::Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => Some(ended(status)),
        _ => None,
    }
}

fn trouble(status: &v1::PodStatus) -> Option<(TroubleKind, String)> {
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return Some((TroubleKind::Ended, ended(status)));
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses);
    for container in containers.flatten() {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        let Some(reason) = waiting.and_then(|waiting| waiting.reason.as_deref()) else {
            continue;
        };
        let Some(kind) = waiting_trouble(reason) else {
            continue;
        };
        let said = waiting
            .and_then(|waiting| waiting.message.as_deref())
            .unwrap_or_default();
        let mut message = format!("container {:?}: {reason}", container.name);
        if !said.is_empty() {
            message += &format!(": {said}");
        }
        if kind == TroubleKind::Crash
            && let Some(last) = container
                .last_state
                .as_ref()
                .and_then(|last| last.terminated.as_ref())
        {
            message += &format!("; last exit code {}", last.exit_code);
        }
        return Some((kind, message));
    }
    let unplaced = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    })?;
    let said = unplaced
        .message
        .clone()
        .unwrap_or_else(|| "no node has room".to_owned());
    Some((TroubleKind::Unschedulable, said))
}

fn waiting_trouble(reason: &str) -> Option<TroubleKind> {
    Some(match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => TroubleKind::Image,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            TroubleKind::Config
        }
        "CrashLoopBackOff" => TroubleKind::Crash,
        _ => return None,
    })
}

fn ended(status: &v1::PodStatus) -> String {
    if let Some(reason) = &status.reason {
        let said = status.message.as_deref().unwrap_or("no further word");
        return format!("{reason}: {said}");
    }
    for container in status.container_statuses.iter().flatten() {
        if let Some(end) = container
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
        {
            let reason = end.reason.as_deref().unwrap_or("it ended");
            return format!(
                "container {:?}: {reason}, exit code {}",
                container.name, end.exit_code
            );
        }
    }
    "the pod ended".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn pod(status: Value) -> v1::Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
    }

    #[test]
    fn a_pod_is_ready_since_its_condition_says_so() {
        let pod = pod(json!({ "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": at(5).to_string() } ] }));
        assert_eq!(of(&pod, None, at(9)), Health::Ready { since: at(5) });
    }

    #[test]
    fn a_running_pod_that_is_not_ready_is_starting() {
        let pod = pod(json!({ "phase": "Running" }));
        assert_eq!(of(&pod, None, at(9)), Health::Starting);
    }

    #[test]
    fn the_cause_of_trouble_is_named() {
        for (status, kind, words) in [
            (
                json!({ "containerStatuses": [{ "name": "executor", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such tag" } } }] }),
                TroubleKind::Image,
                "ImagePullBackOff: no such tag",
            ),
            (
                json!({ "containerStatuses": [{ "name": "executor", "image": "", "imageID": "", "ready": false,
                    "restartCount": 4, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
                    "lastState": { "terminated": { "exitCode": 3 } } }] }),
                TroubleKind::Crash,
                "last exit code 3",
            ),
            (
                json!({ "phase": "Failed", "reason": "Evicted", "message": "low on disk" }),
                TroubleKind::Ended,
                "Evicted: low on disk",
            ),
            (
                json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/1 nodes fit" }] }),
                TroubleKind::Unschedulable,
                "0/1 nodes fit",
            ),
        ] {
            let Health::Failing(trouble) = of(&pod(status), None, at(0)) else {
                panic!("{words}");
            };
            assert_eq!(trouble.kind, kind);
            assert!(trouble.message.contains(words), "{}", trouble.message);
        }
    }

    #[test]
    fn the_last_container_to_begin_and_the_one_most_often_begun_count() {
        let container = |name: &str, restarts: i32, began: i64| {
            json!({ "name": name, "image": "", "imageID": "",
            "ready": true, "restartCount": restarts, "state": { "running": { "startedAt": at(began).to_string() } } })
        };
        let pod = pod(json!({ "containerStatuses": [container("a", 2, 5), container("b", 0, 9)] }));
        assert_eq!(last_start(&pod), Some((at(9), 2)));
    }

    #[test]
    fn trouble_keeps_its_beginning() {
        let status = json!({ "phase": "Failed" });
        let first = of(&pod(status.clone()), None, at(1));
        assert_eq!(of(&pod(status), Some(&first), at(7)), first);
    }
}
