//! What a real API server refuses in built-in objects, beyond their shape.
//!
//! Names, labels and the like, which every object has, are not looked at here; see
//! [`crate::meta`].

mod access;
mod admission;
mod cluster;
mod config;
mod container;
mod network;
mod pod;
mod probe;
mod service;
mod storage;
#[cfg(test)]
mod tests;
mod volume;

use serde_json::Value;

use crate::{
    crd,
    schema::{Cause, Path},
};

/// Tells what is wrong with an object of a built-in kind, and with its change from `old`.
///
/// It expects the object as [`super::defaults::apply`] left it. Writes of subresources that
/// may change what an update may not (`binding`, `resize`) pass no old object.
pub fn validate(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut checks = Checks { causes: Vec::new() };
    match (group, kind) {
        ("", "Pod") => pod::check(&mut checks, object, old),
        ("", "ConfigMap") => config::check_config_map(&mut checks, object, old),
        ("", "Secret") => config::check_secret(&mut checks, object, old),
        ("", "Service") => service::check_service(&mut checks, object, old),
        ("", "Endpoints") => network::check_endpoints(&mut checks, object),
        ("networking.k8s.io", "NetworkPolicy") => network::check_policy(&mut checks, object),
        ("discovery.k8s.io", "EndpointSlice") => {
            network::check_endpoint_slice(&mut checks, object, old)
        }
        ("", "PersistentVolumeClaim") => storage::check_claim(&mut checks, object, old),
        ("", "PersistentVolume") => storage::check_volume(&mut checks, object),
        ("storage.k8s.io", "StorageClass") => storage::check_class(&mut checks, object, old),
        ("rbac.authorization.k8s.io", "Role") => access::check_role(&mut checks, object, true),
        ("rbac.authorization.k8s.io", "ClusterRole") => {
            access::check_role(&mut checks, object, false)
        }
        ("rbac.authorization.k8s.io", "RoleBinding") => {
            access::check_binding(&mut checks, object, old, true)
        }
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => {
            access::check_binding(&mut checks, object, old, false)
        }
        ("authentication.k8s.io", "TokenRequest") => {
            access::check_token_request(&mut checks, object)
        }
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => {
            admission::check_webhooks(&mut checks, object);
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            admission::check_policy(&mut checks, object)
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            admission::check_policy_binding(&mut checks, object);
        }
        ("", "Event") => cluster::check_event(&mut checks, object),
        ("coordination.k8s.io", "Lease") => cluster::check_lease(&mut checks, object),
        ("scheduling.k8s.io", "PriorityClass") => {
            cluster::check_priority_class(&mut checks, object, old)
        }
        ("node.k8s.io", "RuntimeClass") => cluster::check_runtime_class(&mut checks, object, old),
        ("", "ResourceQuota") => cluster::check_quota(&mut checks, object),
        ("apiregistration.k8s.io", "APIService") => cluster::check_api_service(&mut checks, object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => return crd::validate(object, old),
        _ => {}
    }
    checks.causes
}

/// Tells what is wrong with an object of a built-in kind only because it is new.
pub fn validate_new(group: &str, kind: &str, object: &Value) -> Vec<Cause> {
    let mut checks = Checks { causes: Vec::new() };
    if (group, kind) == ("", "Pod") {
        pod::check_new(&mut checks, object);
    }
    checks.causes
}

/// Tells what is wrong with a change through a subresource of a built-in kind, beyond what is
/// wrong with the object itself.
pub fn validate_part(group: &str, kind: &str, part: &str, new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks { causes: Vec::new() };
    if (group, kind, part) == ("", "Pod", "ephemeralcontainers") {
        pod::check_put_in(&mut checks, new, old);
    }
    checks.causes
}

/// The faults found so far, and the ways to find one.
struct Checks {
    causes: Vec<Cause>,
}

impl Checks {
    fn add(&mut self, cause: Cause) {
        self.causes.push(cause);
    }

    fn required(&mut self, path: Path, detail: &str) {
        self.add(Cause::required(path, detail));
    }

    fn invalid(&mut self, path: Path, value: &Value, detail: impl std::fmt::Display) {
        self.add(Cause::invalid(path, value, detail));
    }

    fn forbidden(&mut self, path: Path, detail: &str) {
        self.add(Cause::forbidden(path, detail));
    }

    /// A text that must be there; gives it if it is.
    fn text<'v>(&mut self, path: &Path, object: &'v Value, key: &str) -> Option<&'v str> {
        let text = text(object, key);
        if text.is_none() {
            self.required(path.field(key), "");
        }
        text
    }

    /// A text that must be one of some.
    fn one_of(&mut self, path: &Path, object: &Value, key: &str, allowed: &[&str]) {
        match text(object, key) {
            Some(text) if allowed.contains(&text) => {}
            Some(_) => self.add(Cause::not_supported(path.field(key), &object[key], allowed)),
            None => self.required(path.field(key), ""),
        }
    }

    /// A value in which `faults` may be found.
    fn faults(&mut self, path: Path, value: &Value, faults: Vec<String>) {
        for fault in faults {
            self.invalid(path.clone(), value, fault);
        }
    }

    /// A number, if it is there, that may not be negative.
    fn not_negative(&mut self, path: &Path, object: &Value, key: &str) {
        if object[key].as_f64().is_some_and(|number| number < 0.0) {
            self.invalid(
                path.field(key),
                &object[key],
                "must be greater than or equal to 0",
            );
        }
    }

    /// A port number.
    fn port(&mut self, path: Path, value: &Value) {
        if !value
            .as_i64()
            .is_some_and(|port| (1..=65_535).contains(&port))
        {
            self.invalid(path, value, "must be between 1 and 65535, inclusive");
        }
    }

    /// A port number, or the name of a port.
    fn port_or_name(&mut self, path: Path, value: &Value) {
        match value {
            Value::String(name) => self.faults(path, value, port_name(name)),
            _ => self.port(path, value),
        }
    }

    /// A field that may not change.
    fn same(&mut self, path: Path, new: &Value, old: &Value) {
        if new != old {
            self.invalid(path, new, "field is immutable");
        }
    }
}

/// A text that is there and not empty.
fn text<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// The items of a list; none if it is absent.
fn list<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The entries of a map; none if it is absent.
fn entries<'v>(object: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    object
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// What is wrong with the name of a port.
fn port_name(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > 15 {
        faults.push("must be no more than 15 characters".to_owned());
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        || name.is_empty()
    {
        faults.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// What is wrong with a key of a config map or secret.
fn config_key(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if key.len() > 253 {
        faults.push("must be no more than 253 characters".to_owned());
    }
    if key.is_empty()
        || !key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        faults.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    if key == "." || key == ".." || key.starts_with("..") {
        faults.push("must not be '.', '..' or start with '..'".to_owned());
    }
    faults
}
