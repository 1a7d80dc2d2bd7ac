//! What the node's own object says about who may come: labels, taints, the cordon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::Api;
use kube::runtime::watcher::{self, Event as Watched};

use crate::node::{Shared, lock};

/// The part of the node's object that scheduling looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<(String, String, String)>,
    pub(crate) cordoned: bool,
}

/// The taint that a cordon comes to; whoever tolerates it may come all the same.
const CORDON: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";

impl Seat {
    /// As the object has it.
    pub(crate) fn of(node: &Node) -> Seat {
        let spec = node.spec.clone().unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        Seat {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: taints
                .into_iter()
                .filter(|taint: &Taint| taint.effect != "PreferNoSchedule")
                .map(|taint| (taint.key, taint.value.unwrap_or_default(), taint.effect))
                .collect(),
            cordoned: spec.unschedulable == Some(true),
        }
    }

    /// Why a pod may not come, if it may not.
    pub(super) fn refuses(&self, pod: &Pod) -> Option<String> {
        let tolerations = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default();
        if self.cordoned && !tolerated(tolerations, CORDON, "", NO_SCHEDULE) {
            return Some("node(s) were unschedulable".to_owned());
        }
        let (key, value, _) = self
            .taints
            .iter()
            .find(|(key, value, effect)| !tolerated(tolerations, key, value, effect))?;
        Some(format!("node(s) had untolerated taint {{{key}: {value}}}"))
    }
}

fn tolerated(tolerations: &[Toleration], key: &str, value: &str, effect: &str) -> bool {
    tolerations.iter().any(|one| {
        let any_effect = one.effect.as_deref().unwrap_or_default();
        let wanted = one.key.as_deref().unwrap_or_default();
        let exists = one.operator.as_deref() == Some("Exists");
        (any_effect.is_empty() || any_effect == effect)
            && match wanted.is_empty() {
                // Only one that asks for no value means every key.
                true => exists,
                false => {
                    wanted == key && (exists || one.value.as_deref().unwrap_or_default() == value)
                }
            }
    })
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
                *lock(&shared.seat) = Seat::of(&node);
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
        Seat::of(&serde_json::from_value(node).unwrap())
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
