//! What a real API server fills into built-in objects before it stores them.

mod admission;
mod cluster;
mod pod;
mod service;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::crd;

/// Fills in what an object of a built-in kind leaves out. Doing so twice changes nothing
/// more.
pub fn apply(group: &str, kind: &str, object: &mut Value) {
    if !object.is_object() {
        return;
    }
    match (group, kind) {
        ("", "Pod") => pod::fill_pod(object),
        ("", "Service") => service::fill_service(object),
        ("", "Endpoints") => service::fill_endpoints(object),
        ("discovery.k8s.io", "EndpointSlice") => service::fill_endpoint_slice(object),
        ("networking.k8s.io", "NetworkPolicy") => service::fill_network_policy(object),
        ("", "Secret") => cluster::fill_secret(object),
        ("", "Namespace") => cluster::fill_namespace(object),
        ("", "PersistentVolume") => cluster::fill_volume(object),
        ("", "PersistentVolumeClaim") => cluster::fill_claim(object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            cluster::fill_binding(object)
        }
        ("scheduling.k8s.io", "PriorityClass") => cluster::fill_priority_class(object),
        ("storage.k8s.io", "StorageClass") => cluster::fill_storage_class(object),
        ("authentication.k8s.io", "TokenRequest") => cluster::fill_token_request(object),
        ("apiregistration.k8s.io", "APIService") => cluster::fill_api_service(object),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => {
            admission::fill_webhooks(object, true)
        }
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => {
            admission::fill_webhooks(object, false)
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            admission::fill_policy(object)
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            admission::fill_policy_binding(object)
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::default(object),
        _ => {}
    }
}

/// Sets a field that is absent or null. Does nothing to what is not an object.
fn fill(object: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(key).is_none_or(Value::is_null)
    {
        fields.insert(key.to_owned(), value.into());
    }
}

/// The same, where an empty text counts as absent too.
fn fill_text(object: &mut Value, key: &str, value: &str) {
    if object.get(key).and_then(Value::as_str) == Some("") {
        object[key] = Value::from(value);
    }
    fill(object, key, value);
}

/// The object in a field, if there is one.
fn at<'v>(object: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    object
        .pointer_mut(pointer)
        .filter(|value| value.is_object())
}

/// The items of a list, if there is one.
fn items<'v>(object: &'v mut Value, pointer: &str) -> impl Iterator<Item = &'v mut Value> {
    object
        .pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
