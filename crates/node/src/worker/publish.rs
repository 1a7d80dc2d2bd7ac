//! Telling the API what has become of a pod: as few writes as possible, never two at once.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::{Event, Making, Tending};
use crate::node::Shared;
use crate::pod::{Facts, status};

/// Being created is told only when it takes longer than this: most pods are ready before.
const WORTH_TELLING: SignedDuration = SignedDuration::from_millis(150);
/// An API that does not answer is asked again after so long.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What the API has been told.
#[derive(Default)]
pub(super) struct Publisher {
    told: Option<PodStatus>,
    asking: Option<PodStatus>,
    first: Option<Timestamp>,
    again: Option<Timestamp>,
    gone: bool,
    /// The pod is being removed; its last status goes with it.
    pub(super) removing: bool,
}

impl Publisher {
    /// The pod is not in the API any more.
    pub(super) fn gone(&mut self) {
        self.gone = true;
    }

    /// The API took what it was told last, or did not.
    pub(super) fn answered(&mut self, taken: bool) {
        let asked = self.asking.take();
        if taken {
            self.told = asked;
        } else {
            self.again = Some(Timestamp::now() + AGAIN);
        }
    }

    /// Whether the API knows all that there is to tell.
    pub(super) fn has_told(&self, facts: &Facts, now: Timestamp) -> bool {
        let settled = self.asking.is_none() && self.again.is_none_or(|again| again <= now);
        let known = self.told.as_ref().or(facts.pod.status.as_ref());
        self.gone || settled && known.is_some_and(|known| same(known, &status(facts, now)))
    }

    /// What is left to say when everything has ended.
    pub(super) fn last_word(&self, facts: &Facts) -> Option<PodStatus> {
        (!self.gone).then(|| status(facts, Timestamp::now()))
    }
}

impl Tending {
    /// Tells the API what is new; the result is when to look again.
    pub(super) fn publish(&mut self, now: Timestamp) -> Option<Timestamp> {
        let publisher = &mut self.publisher;
        if publisher.gone || publisher.removing || publisher.asking.is_some() {
            return None;
        }
        if let Some(again) = publisher.again.filter(|again| *again > now) {
            return Some(again);
        }
        let first = *publisher.first.get_or_insert(now);
        let status = status(&self.facts, now);
        let quiet = status.phase.as_deref() == Some("Pending")
            && self.facts.trouble.is_none()
            && publisher.told.is_none();
        let creating = quiet
            && matches!(
                self.making,
                Making::Nothing | Making::Sandbox | Making::Volumes | Making::Ready
            );
        let held = self.facts.runs.values().any(|run| run.held.is_some());
        if creating && !held && now < first + WORTH_TELLING {
            return Some(first + WORTH_TELLING);
        }
        let known = publisher.told.as_ref().or(self.facts.pod.status.as_ref());
        if known.is_some_and(|known| same(known, &status)) {
            return None;
        }
        publisher.asking = Some(status.clone());
        // The next status grows from this one: its transition times, for one.
        self.facts.pod.status = Some(status.clone());
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        self.tasks
            .spawn(async move { Event::Published(tell(&shared, &pod, &status).await) });
        None
    }
}

/// Whether the API would show the same.
fn same(known: &PodStatus, new: &PodStatus) -> bool {
    known == new
}

async fn tell(shared: &Arc<Shared>, pod: &Pod, status: &PodStatus) -> bool {
    let api = pods(shared, pod);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let patch =
        Patch::Merge(json!({"metadata": {"uid": pod.metadata.uid}, "status": full(status)}));
    let params = PatchParams::default();
    let asked = api.patch_status(name, &params, &patch);
    match tokio::time::timeout(Duration::from_secs(30), asked).await {
        Ok(Ok(_)) => true,
        // Deleted or replaced: the watch will say so.
        Ok(Err(kube::Error::Api(error))) if error.code == 404 || error.code == 409 => true,
        Ok(Err(error)) => {
            tracing::warn!(pod = name, %error, "cannot tell the API a pod's status");
            false
        }
        Err(_) => false,
    }
}

/// A merge patch keeps what it does not name: what a status no longer has must be named.
fn full(status: &PodStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for name in [
            "podIP",
            "podIPs",
            "reason",
            "message",
            "initContainerStatuses",
        ] {
            fields.entry(name).or_insert(serde_json::Value::Null);
        }
    }
    value
}

fn pods(shared: &Shared, pod: &Pod) -> Api<Pod> {
    Api::namespaced(
        shared.client.clone(),
        pod.metadata.namespace.as_deref().unwrap_or("default"),
    )
}

/// Tells the last status and takes the object away; tried until the API answers.
pub(super) async fn farewell(shared: &Arc<Shared>, pod: &Pod, last: Option<PodStatus>) {
    let Some(last) = last else { return };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let only_this = Preconditions {
        uid: pod.metadata.uid.clone(),
        resource_version: None,
    };
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(only_this),
        ..DeleteParams::default()
    };
    tell(shared, pod, &last).await;
    loop {
        match pods(shared, pod).delete(name, &params).await {
            Ok(_) => return,
            Err(kube::Error::Api(error)) if error.code == 404 || error.code == 409 => return,
            Err(error) => tracing::warn!(pod = name, %error, "cannot remove a pod that has ended"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
