//! Sending a pod away whose node has a taint that it does not tolerate, or not any more.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::{Event, Tending};
use crate::node::Shared;
use crate::schedule;

/// What the API did not take is tried again after so long.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// How far the pod's being sent away is.
#[derive(Default)]
pub(super) struct Eviction {
    /// The API was asked, and perhaps has not answered.
    asked: bool,
    /// Not before this.
    not_before: Option<Timestamp>,
}

impl Eviction {
    /// The API has answered.
    pub(super) fn answered(&mut self, deleted: bool, now: Timestamp) {
        self.asked = deleted;
        self.not_before = (!deleted).then(|| now + AGAIN);
    }
}

impl Tending {
    /// Has the pod deleted when its time on a tainted node is over; the result is when to
    /// look again.
    pub(super) fn evict(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.eviction.asked || self.facts.is_ending() {
            return None;
        }
        let leaves = schedule::leaves_at(&self.facts.pod, &self.shared.seat.borrow().taints)?;
        let due = leaves.max(self.eviction.not_before.unwrap_or(Timestamp::MIN));
        if due > now {
            return Some(due);
        }
        self.eviction.asked = true;
        let (events, pod) = (&self.shared.events, &self.facts.pod);
        let message = format!("Marking for deletion Pod {}", self.name());
        events.normal(pod, None, "TaintManagerEviction", &message);
        self.facts.sent_away = true;
        let (shared, pod) = (self.shared.clone(), self.facts.pod.clone());
        self.tasks
            .spawn(async move { Event::SentAway(delete(&shared, &pod).await) });
        None
    }
}

/// Asks for the pod's end with its own grace; true when that is on its way.
async fn delete(shared: &Shared, pod: &Pod) -> bool {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let only_this = Preconditions {
        uid: pod.metadata.uid.clone(),
        resource_version: None,
    };
    let params = DeleteParams {
        preconditions: Some(only_this),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => true,
        // Deleted or replaced meanwhile.
        Err(kube::Error::Api(error)) if error.code == 404 || error.code == 409 => true,
        Err(error) => {
            tracing::warn!(pod = name, %error, "cannot delete a pod that may not stay here");
            false
        }
    }
}
