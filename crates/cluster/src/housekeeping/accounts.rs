//! Every namespace has a service account `default`, and a ConfigMap `kube-root-ca.crt` by
//! which its pods know the API server.

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_store::{Event, Key};
use serde_json::json;

use super::agenda::Agenda;
use super::chore::{Chore, Plan};
use super::hand::{Action, Target};
use crate::api::{Api, parse};
use crate::object::at;
use crate::record::{Facts, Record};

const ACCOUNT: &str = "default";
const AUTHORITY: &str = "kube-root-ca.crt";

/// Sees to what every namespace has.
pub(crate) struct Accounts {
    api: Arc<Api>,
}

impl Accounts {
    pub(crate) fn new(api: Arc<Api>) -> Accounts {
        Accounts { api }
    }

    fn account(&self, namespace: &Arc<str>) -> Option<Action> {
        let key = Key::new("serviceaccounts", Arc::clone(namespace), ACCOUNT);
        if self.api.store.get(&key).is_some() {
            return None;
        }
        let kinds = self.api.registry.now();
        Some(Action::Create {
            kind: Arc::clone(kinds.stored("serviceaccounts")?),
            namespace: Arc::clone(namespace),
            object: json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT},
            }),
        })
    }

    fn authority(&self, namespace: &Arc<str>) -> Option<Action> {
        let certificate = &self.api.authority;
        if certificate.is_empty() {
            return None;
        }
        let key = Key::new("configmaps", Arc::clone(namespace), AUTHORITY);
        let kinds = self.api.registry.now();
        let kind = kinds.stored("configmaps")?;
        let data = json!({ "ca.crt": certificate });
        let Some(record) = self.api.store.get(&key) else {
            return Some(Action::Create {
                kind: Arc::clone(kind),
                namespace: Arc::clone(namespace),
                object: json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "data": data,
                    "metadata": {"name": AUTHORITY, "annotations": {
                        "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
                    }},
                }),
            });
        };
        let mut object = parse(&record).ok()?;
        if at(&object, &["data"]) == Some(&data) {
            return None;
        }
        object["data"] = data;
        let target = Target::new(kind, &record);
        Some(Action::Replace { target, object })
    }
}

impl Chore for Accounts {
    /// The name of a namespace.
    type Thing = Arc<str>;

    fn begin(&mut self, records: &[Arc<Record>], agenda: &mut Agenda<Arc<str>>) {
        let namespaces = records.iter().filter(|r| &*r.key.kind == "namespaces");
        namespaces.for_each(|namespace| agenda.add(Arc::clone(&namespace.key.name)));
    }

    fn see(&mut self, event: &Event<Facts>, agenda: &mut Agenda<Arc<str>>) {
        let key = &event.record.key;
        match (&*key.kind, &*key.name) {
            ("namespaces", name) if event.previous.is_none() => agenda.add(name.into()),
            ("serviceaccounts", ACCOUNT) if event.deleted => {
                agenda.add(Arc::clone(&key.namespace));
            }
            ("configmaps", AUTHORITY) => agenda.add(Arc::clone(&key.namespace)),
            _ => {}
        }
    }

    fn plan(&mut self, namespace: &Arc<str>, _: Timestamp) -> Plan {
        let key = Key::new("namespaces", "", Arc::clone(namespace));
        let stays = |record: Arc<Record>| !record.facts.deleting;
        if !self.api.store.get(&key).is_some_and(stays) {
            return Plan::Rest;
        }
        let missing = [self.account(namespace), self.authority(namespace)];
        let actions: Vec<Action> = missing.into_iter().flatten().collect();
        match actions.is_empty() {
            true => Plan::Rest,
            false => Plan::Act(actions),
        }
    }
}
