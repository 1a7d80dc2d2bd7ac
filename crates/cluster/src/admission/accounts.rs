//! Every pod runs as a service account, and knows its token.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Admission, AdmissionRequest, Denied, Operation, Warnings};
use crate::kubelet::BoxFuture;
use crate::lookup::Lookup;
use crate::object::{as_map, text};

/// Where containers find their token.
const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the account of a pod that names none is called.
const DEFAULT: &str = "default";
/// A pod that carries this is the node's own image of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Pods may be faster than the account that every new namespace gets.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);
/// A little more than an hour, as Kubernetes has it, so that a renewal each hour is in time.
const TOKEN_SECONDS: u64 = 3607;

/// Gives new pods their account, its token and its image secrets.
pub(crate) struct Accounts {
    lookup: Arc<dyn Lookup>,
}

impl Accounts {
    /// Reads service accounts from here.
    pub(crate) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Accounts { lookup }
    }

    async fn fill(&self, request: &mut AdmissionRequest) -> Result<(), Denied> {
        let Some(pod) = request
            .object
            .as_mut()
            .filter(|pod| pod["spec"].is_object())
        else {
            // Validation says what is wrong with it.
            return Ok(());
        };
        if !pod["metadata"]["annotations"][MIRROR].is_null() {
            return Ok(());
        }
        let name = match (
            text(pod, &["spec", "serviceAccountName"]),
            text(pod, &["spec", "serviceAccount"]),
        ) {
            ("", "") => DEFAULT,
            ("", old) => old,
            (name, _) => name,
        };
        let name = name.to_owned();
        for field in ["serviceAccountName", "serviceAccount"] {
            pod["spec"][field] = name.as_str().into();
        }
        let Some(account) = self.account(&request.namespace, &name).await else {
            let namespace = &request.namespace;
            return Err(request.forbidden(&format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            )));
        };
        if let Some(pod) = &mut request.object {
            furnish(&mut pod["spec"], &account);
        }
        Ok(())
    }

    /// The account; the default one is waited for.
    async fn account(&self, namespace: &str, name: &str) -> Option<Value> {
        let find = || self.lookup.get("serviceaccounts", namespace, name);
        if name != DEFAULT {
            return find();
        }
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(account) = find() {
                    return account;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        waited.await.ok()
    }
}

impl Admission for Accounts {
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        request.operation == Operation::Create && request.is_about("", "pods")
    }

    fn mutate<'a>(
        &'a self,
        request: &'a mut AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async { self.fill(request).await.map(|()| Warnings::new()) })
    }
}

/// Gives a pod what its account brings along.
fn furnish(spec: &mut Value, account: &Value) {
    let has_own = spec["imagePullSecrets"]
        .as_array()
        .is_some_and(|own| !own.is_empty());
    if !has_own && account["imagePullSecrets"].is_array() {
        spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
    }
    let wish = |of: &Value| of["automountServiceAccountToken"].as_bool();
    if !wish(spec).or_else(|| wish(account)).unwrap_or(true) {
        return;
    }
    let mut volume = existing(spec);
    for kind in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(kind).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers
            .iter_mut()
            .filter(|container| container.is_object())
        {
            mount(container, &mut volume);
        }
    }
    if let Some(Name::Fresh(name)) = volume {
        let volumes = as_map(spec).entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(token_volume(&name));
        }
    }
}

/// The name of the volume with the token.
enum Name {
    Existing(String),
    Fresh(String),
}

impl Name {
    fn fresh() -> Name {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Name::Fresh(format!(
            "kube-api-access-{}",
            random.get(..5).unwrap_or_default()
        ))
    }

    fn as_str(&self) -> &str {
        match self {
            Name::Existing(name) | Name::Fresh(name) => name,
        }
    }
}

/// The volume of a pod that was made from another's manifest, and has one already.
fn existing(spec: &Value) -> Option<Name> {
    let volumes = spec["volumes"].as_array()?;
    let names = volumes.iter().map(|volume| text(volume, &["name"]));
    let found = names
        .into_iter()
        .find(|name| name.starts_with("kube-api-access-"))?;
    Some(Name::Existing(found.to_owned()))
}

/// Mounts the token, from a volume that is named for it, unless something else is there.
fn mount(container: &mut Value, volume: &mut Option<Name>) {
    let mounts = as_map(container)
        .entry("volumeMounts")
        .or_insert_with(|| json!([]));
    let Some(mounts) = mounts.as_array_mut() else {
        return;
    };
    if !mounts.iter().any(|mount| mount["mountPath"] == PLACE) {
        let name = volume.get_or_insert_with(Name::fresh).as_str();
        mounts.push(json!({"name": name, "mountPath": PLACE, "readOnly": true}));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": PLACE}]}],
            "initContainers": [{"name": "i"}],
        })
    }

    #[test]
    fn a_pod_gets_its_accounts_token_and_image_secrets() {
        let mut spec = pod();
        furnish(
            &mut spec,
            &json!({"imagePullSecrets": [{"name": "registry"}]}),
        );
        let volume = spec["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(volume.starts_with("kube-api-access-"));
        for container in [&spec["containers"][0], &spec["initContainers"][0]] {
            assert_eq!(container["volumeMounts"][0]["name"], volume.as_str());
        }
        assert_eq!(
            spec["containers"][1]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(spec["imagePullSecrets"][0]["name"], "registry");
    }

    #[test]
    fn the_pods_wish_counts_more_than_its_accounts() {
        for (pods, accounts, mounted) in [
            (json!(null), json!(null), true),
            (json!(null), json!(false), false),
            (json!(true), json!(false), true),
            (json!(false), json!(true), false),
        ] {
            let mut spec = pod();
            spec["automountServiceAccountToken"] = pods;
            furnish(
                &mut spec,
                &json!({"automountServiceAccountToken": accounts}),
            );
            assert_eq!(spec["volumes"].is_array(), mounted, "{spec}");
        }
    }

    #[test]
    fn nothing_is_given_twice() {
        let mut spec = pod();
        furnish(&mut spec, &json!({}));
        let once = spec.clone();
        furnish(&mut spec, &json!({}));
        assert_eq!(spec, once);
    }

    #[test]
    fn a_pod_of_the_wrong_shape_is_left_to_validation() {
        let mut spec = json!({"containers": [3, {"volumeMounts": "none"}], "volumes": 7});
        furnish(&mut spec, &json!({}));
    }
}
