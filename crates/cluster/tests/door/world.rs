//! A cluster's objects without the cluster: a store that tests write to.

use std::sync::Arc;

use bytes::Bytes;
use sandlot_cluster::access::Authorizer;
use sandlot_cluster::lookup::{Leaving, Lookup};
use sandlot_store::{Change, Config, Expect, Facts, Key, Store};
use serde_json::{Value, json};

/// Nothing needs to be known of the objects here.
#[derive(Clone, Debug)]
pub(crate) struct Nothing;

impl Facts for Nothing {
    fn of(_: &Key, _: &[u8]) -> Self {
        Nothing
    }
}

impl Leaving for Nothing {
    fn is_leaving(&self) -> bool {
        false
    }
}

/// A store that tests write to.
#[derive(Clone)]
pub(crate) struct World(Store<Nothing>);

impl World {
    pub(crate) fn new() -> Self {
        World(Store::open(Config::in_memory()).unwrap())
    }

    pub(crate) fn lookup(&self) -> Arc<dyn Lookup> {
        Arc::new(self.0.clone())
    }

    pub(crate) fn authorizer(&self) -> Arc<Authorizer> {
        Arc::new(Authorizer::new(&self.0))
    }

    /// Creates or replaces an object.
    pub(crate) async fn put(&self, kind: &str, object: Value) {
        let key = key(kind, &object);
        let expect = match self.0.get(&key) {
            Some(record) => Expect::Revision(record.revision),
            None => Expect::Absent,
        };
        let bytes = Bytes::from(object.to_string());
        self.0
            .write(key, expect, Change::put(Nothing, move |_| bytes))
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let key = Key::new(kind, namespace, name);
        let record = self.0.get(&key).unwrap();
        let last = record.value.clone();
        self.0
            .write(
                key,
                Expect::Revision(record.revision),
                Change::delete(Nothing, move |_| last),
            )
            .await
            .unwrap();
    }

    /// A ClusterRole or, with a namespace, a Role.
    pub(crate) async fn role(&self, namespace: &str, name: &str, rules: Value) {
        let kind = if namespace.is_empty() {
            "clusterroles"
        } else {
            "roles"
        };
        let role = json!({"metadata": {"namespace": namespace, "name": name}, "rules": rules});
        self.put(&format!("rbac.authorization.k8s.io/{kind}"), role)
            .await;
    }

    /// A ClusterRoleBinding or, with a namespace, a RoleBinding. `role` is `Role/name` or
    /// `ClusterRole/name`; a subject is `User/name`, `Group/name` or
    /// `ServiceAccount/namespace/name`.
    pub(crate) async fn bind(&self, namespace: &str, name: &str, role: &str, subjects: &[&str]) {
        let kind = if namespace.is_empty() {
            "clusterrolebindings"
        } else {
            "rolebindings"
        };
        let (role_kind, role) = role.split_once('/').unwrap();
        let subjects: Vec<Value> = subjects.iter().map(|text| subject(text)).collect();
        let binding = json!({
            "metadata": {"namespace": namespace, "name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
            "subjects": subjects,
        });
        self.put(&format!("rbac.authorization.k8s.io/{kind}"), binding)
            .await;
    }

    /// A service account with a uid.
    pub(crate) async fn account(&self, namespace: &str, name: &str, uid: &str) {
        let account = json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}});
        self.put("serviceaccounts", account).await;
    }
}

fn key(kind: &str, object: &Value) -> Key {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Key::new(kind, text("namespace"), text("name"))
}

fn subject(text: &str) -> Value {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        ["ServiceAccount", namespace, name] => {
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        [kind, name] => {
            json!({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"})
        }
        _ => panic!("{text} is no subject"),
    }
}
