//! What must be known of a pod to call its agent. One watch tells it of all sessions' pods, also
//! of those that are warm, so that a session that gets one need not ask for it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use sandlot_access::AGENT_KEY_ANNOTATION;
use tokio_util::sync::CancellationToken;

use crate::{
    pools::MADE_BY,
    watching::{self, News},
};

/// A pod's node, and the key that its agent proves itself with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub(crate) node: String,
    pub(crate) key: Option<String>,
}

/// The pods that sessions have or may get, by name.
pub(crate) struct Pods {
    client: Client,
    namespace: String,
    known: Mutex<HashMap<String, Whereabouts>>,
}

impl Pods {
    pub(crate) fn new(client: Client, namespace: String) -> Self {
        Self {
            client,
            namespace,
            known: Mutex::default(),
        }
    }

    pub(crate) fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Follows all of them until cancelled.
    pub(crate) async fn follow(&self, cancel: &CancellationToken) {
        let hear = |news| match news {
            News::There(pod) => self.known().extend(whereabouts(pod)),
            News::Gone(name) => drop(self.known().remove(&name)),
            News::Only(names) => self.known().retain(|name, _| names.contains(name)),
        };
        watching::follow(self.api(), MADE_BY, cancel, hear).await;
    }

    /// What is known of a pod, which is asked for where that is nothing.
    pub(crate) async fn find(&self, name: &str) -> Result<Whereabouts, kube::Error> {
        let known = self.known().get(name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let pod = self.api().get(name).await?;
        Ok(of(&pod))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Whereabouts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pod's name and whereabouts, once nothing of them changes any more.
fn whereabouts(pod: Pod) -> Option<(String, Whereabouts)> {
    let found = of(&pod);
    let is_settled = !found.node.is_empty() && found.key.is_some();
    Some((pod.metadata.name?, found)).filter(|_| is_settled)
}

fn of(pod: &Pod) -> Whereabouts {
    let annotations = pod.metadata.annotations.as_ref();
    let spec = pod.spec.as_ref();
    Whereabouts {
        node: spec
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        key: annotations.and_then(|all| all.get(AGENT_KEY_ANNOTATION).cloned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_known_once_it_has_a_node_and_a_key() {
        let pod = |node: Option<&str>, key: Option<&str>| -> Pod {
            let annotations = key.map(|key| json!({ AGENT_KEY_ANNOTATION: key }));
            serde_json::from_value(json!({
                "metadata": { "name": "p", "annotations": annotations },
                "spec": { "containers": [], "nodeName": node },
            }))
            .unwrap()
        };
        assert_eq!(whereabouts(pod(None, Some("k"))), None);
        assert_eq!(whereabouts(pod(Some("n"), None)), None);
        let (name, found) = whereabouts(pod(Some("n"), Some("k"))).unwrap();
        assert_eq!((name.as_str(), found.node.as_str()), ("p", "n"));
    }
}
