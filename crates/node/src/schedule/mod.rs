//! Whether a pod fits on this node, the only one there is.

mod affinity;
mod seat;
mod taints;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::node::{Shared, lock};
use crate::pod::{containers, requested};
use crate::registration::Capacity;

pub(crate) use affinity::Neighbour;
pub(crate) use seat::{Seat, follow};
pub(crate) use taints::leaves_at;

/// More pods than this are never remembered as waiting; the next list brings the rest.
const MOST_WAITING: usize = 10_000;

/// The answer to whether a pod fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fits,
    DoesNotFit(String),
}

/// What running pods have asked for, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) pods: usize,
    pub(crate) cpu: i128,
    pub(crate) memory: i128,
}

/// Pods that did not fit.
#[derive(Default)]
pub(crate) struct Waiting {
    pods: BTreeMap<String, Pod>,
}

impl Waiting {
    /// True when the pod was not waiting before.
    pub(crate) fn add(&mut self, pod: Pod) -> bool {
        if self.pods.len() >= MOST_WAITING {
            return false;
        }
        self.pods
            .insert(pod.metadata.uid.clone().unwrap_or_default(), pod)
            .is_none()
    }

    pub(crate) fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// All of them, to be tried again; they stay known as waiting.
    pub(crate) fn take(&self) -> Vec<Pod> {
        self.pods.values().cloned().collect()
    }
}

/// What the pods that run here have asked for.
pub(crate) fn used(shared: &Shared) -> Used {
    let workers = lock(&shared.workers);
    workers
        .values()
        .filter(|worker| !worker.task.is_finished())
        .map(|worker| lock(&worker.view))
        .filter(|view| !view.at_rest)
        .map(|view| view.asked)
        .fold(Used::default(), |sum, one| Used {
            pods: sum.pods + 1,
            cpu: sum.cpu + one.cpu,
            memory: sum.memory + one.memory,
        })
}

/// What one pod asks for.
pub(crate) fn asked(pod: &Pod) -> Used {
    Used {
        pods: 1,
        cpu: requested(pod, "cpu"),
        memory: requested(pod, "memory"),
    }
}

/// Who is here already.
pub(crate) fn neighbours(shared: &Shared) -> Vec<Neighbour> {
    let workers = lock(&shared.workers);
    let running = workers.values().filter(|worker| !worker.task.is_finished());
    running
        .map(|worker| {
            let view = lock(&worker.view);
            Neighbour {
                namespace: view.namespace.clone(),
                labels: view.labels.clone(),
            }
        })
        .collect()
}

/// Judges by room, taints, wishes and neighbours.
pub(crate) fn judge(
    pod: &Pod,
    capacity: &Capacity,
    used: &Used,
    seat: &Seat,
    here: impl FnOnce() -> Vec<Neighbour>,
) -> Verdict {
    let wants = asked(pod);
    let mut why = Vec::new();
    if used.pods >= capacity.pods {
        why.push("Too many pods".to_owned());
    }
    if used.cpu + wants.cpu > i128::from(capacity.cpu_milli) && wants.cpu > 0 {
        why.push("Insufficient cpu".to_owned());
    }
    if used.memory + wants.memory > i128::from(capacity.memory_bytes) * 1000 && wants.memory > 0 {
        why.push("Insufficient memory".to_owned());
    }
    why.extend(
        strange_resources(pod)
            .into_iter()
            .map(|name| format!("Insufficient {name}")),
    );
    why.extend(seat.refuses(pod));
    if !affinity::wants(pod, seat) {
        why.push("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    // Nearly no pod asks, and then nobody has to be looked at.
    let asks = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.affinity.is_some());
    if asks {
        why.extend(affinity::keeps_away(pod, &here(), seat).map(str::to_owned));
    }
    if why.is_empty() {
        Verdict::Fits
    } else {
        Verdict::DoesNotFit(format!("0/1 nodes are available: 1 {}.", why.join(", 1 ")))
    }
}

/// Resources that a pod asks for and this node has nothing of.
fn strange_resources(pod: &Pod) -> BTreeSet<String> {
    const OURS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    let asked = pod.spec.iter().flat_map(containers);
    let resources = asked.filter_map(|(_, container)| container.resources.clone());
    let names = resources.flat_map(|resources| {
        let (requests, limits) = (resources.requests, resources.limits);
        let all = requests
            .into_iter()
            .flatten()
            .chain(limits.into_iter().flatten());
        all.map(|(name, _)| name)
    });
    names
        .filter(|name| !OURS.contains(&name.as_str()) && requested(pod, name) > 0)
        .collect()
}

/// Says in the pod's status and as an event why it waits.
pub(crate) async fn tell(shared: &Shared, pod: &Pod, why: &str) {
    shared.events.warning(pod, None, "FailedScheduling", why);
    let api: Api<Pod> = Api::namespaced(
        shared.client.clone(),
        pod.metadata.namespace.as_deref().unwrap_or("default"),
    );
    let status = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
        "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()),
    }]}});
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Err(error) = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
    {
        tracing::debug!(pod = name, %error, "cannot tell why a pod waits");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_that_asks_for_more_than_is_left_waits_and_the_reason_names_the_resource() {
        let capacity = Capacity {
            cpu_milli: 2000,
            memory_bytes: 1 << 30,
            pods: 10,
        };
        let wants = pod(
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}]}),
        );
        let busy = Used {
            pods: 1,
            cpu: 1000,
            memory: 0,
        };
        let seat = Seat::default();
        let judge = |pod: &Pod, used: &Used| super::judge(pod, &capacity, used, &seat, Vec::new);
        assert_eq!(judge(&wants, &Used::default()), Verdict::Fits);
        assert_eq!(
            judge(&wants, &busy),
            Verdict::DoesNotFit("0/1 nodes are available: 1 Insufficient cpu.".into())
        );
        let elsewhere = pod(json!({"nodeSelector": {"gpu": "yes"}, "containers": [{"name": "c"}]}));
        assert!(matches!(judge(&elsewhere, &busy), Verdict::DoesNotFit(_)));
        let graphics = pod(json!({"containers": [
            {"name": "c", "resources": {"limits": {"example.com/gpu": "1"}}}]}));
        assert_eq!(
            judge(&graphics, &busy),
            Verdict::DoesNotFit("0/1 nodes are available: 1 Insufficient example.com/gpu.".into())
        );
    }
}
