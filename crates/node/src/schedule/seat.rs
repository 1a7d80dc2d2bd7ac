//! What the node's own object says about who may come: labels, taints, the cordon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::runtime::watcher::{self, Event as Watched};

use super::taints::{Taint, tolerates_schedule};
use crate::node::Shared;

/// The part of the node's object that scheduling looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) cordoned: bool,
}

/// The taint that a cordon comes to; whoever tolerates it may come all the same.
const CORDON: &str = "node.kubernetes.io/unschedulable";

impl Seat {
    /// As the object has it; `before` is what it was when it was last seen.
    pub(crate) fn of(node: &Node, before: &Seat, now: Timestamp) -> Seat {
        let spec = node.spec.clone().unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        Seat {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: taints
                .iter()
                .filter_map(|taint| Taint::read(taint, &before.taints, now))
                .collect(),
            cordoned: spec.unschedulable == Some(true),
        }
    }

    /// Why a pod may not come, if it may not.
    pub(super) fn refuses(&self, pod: &Pod) -> Option<String> {
        if self.cordoned && !tolerates_schedule(pod, CORDON) {
            return Some("node(s) were unschedulable".to_owned());
        }
        let taint = self.taints.iter().find(|taint| !taint.tolerated_by(pod))?;
        let (key, value) = (&taint.key, &taint.value);
        Some(format!("node(s) had untolerated taint {{{key}: {value}}}"))
    }
}

/// Follows the node's object until the node stops.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let api: Api<Node> = Api::all(shared.client.clone());
    let only = watcher::Config::default().fields(&format!("metadata.name={}", shared.node_name));
    let mut stream = std::pin::pin!(watcher::watcher(api, only));
    let stop = shared.stopped().clone();
    while let Some(Some(event)) = stop.run_until_cancelled(stream.next()).await {
        match event {
            Ok(Watched::Apply(node) | Watched::InitApply(node)) => {
                shared
                    .seat
                    .send_modify(|seat| *seat = Seat::of(&node, seat, Timestamp::now()));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the watch on the node's own object broke; it is taken up again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn seat(spec: Value) -> Seat {
        let node = json!({"metadata": {"name": "n"}, "spec": spec});
        let node = serde_json::from_value(node).unwrap();
        Seat::of(&node, &Seat::default(), Timestamp::UNIX_EPOCH)
    }

    fn pod(tolerations: Value) -> Pod {
        let spec = json!({"containers": [], "tolerations": tolerations});
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn a_taint_keeps_out_who_does_not_tolerate_it() {
        let seat = seat(json!({"taints": [
            {"key": "gpu", "value": "old", "effect": "NoSchedule"},
            {"key": "soft", "effect": "PreferNoSchedule"}]}));
        let why = seat.refuses(&pod(json!([]))).unwrap();
        assert_eq!(why, "node(s) had untolerated taint {gpu: old}");
        for (toleration, comes) in [
            (
                json!({"key": "gpu", "value": "old", "effect": "NoSchedule"}),
                true,
            ),
            (json!({"key": "gpu", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gpu", "value": "new"}), false),
            (
                json!({"key": "gpu", "value": "old", "effect": "NoExecute"}),
                false,
            ),
            (json!({"key": "other", "operator": "Exists"}), false),
        ] {
            let refused = seat.refuses(&pod(json!([toleration])));
            assert_eq!(refused.is_none(), comes, "{toleration}");
        }
    }

    #[test]
    fn a_cordon_keeps_everybody_out_but_who_tolerates_it() {
        let seat = seat(json!({"unschedulable": true}));
        let why = seat.refuses(&pod(json!([]))).unwrap();
        assert_eq!(why, "node(s) were unschedulable");
        let stays = json!([{"key": CORDON, "operator": "Exists", "effect": "NoSchedule"}]);
        assert_eq!(seat.refuses(&pod(stays)), None);
    }
}
