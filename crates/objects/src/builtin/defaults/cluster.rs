//! Namespaces, secrets, volumes, roles and the small kinds.

use base64::Engine as _;
use serde_json::{Value, json};

use super::{at, fill, fill_text, items};

const RBAC: &str = "rbac.authorization.k8s.io";

/// `stringData` is only a way of writing: what is stored is `data`.
pub(super) fn fill_secret(secret: &mut Value) {
    fill_text(secret, "type", "Opaque");
    let Some(plain) = secret
        .as_object_mut()
        .and_then(|fields| fields.remove("stringData"))
    else {
        return;
    };
    let Value::Object(plain) = plain else { return };
    if plain.is_empty() {
        return;
    }
    fill(secret, "data", json!({}));
    for (key, value) in plain {
        if let Some(text) = value.as_str()
            && secret["data"].is_object()
        {
            secret["data"][key] = json!(base64::engine::general_purpose::STANDARD.encode(text));
        }
    }
}

/// Every namespace can be selected by its name.
pub(super) fn fill_namespace(namespace: &mut Value) {
    let Some(name) = namespace["metadata"]["name"]
        .as_str()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
    else {
        return;
    };
    let metadata = &mut namespace["metadata"];
    fill(metadata, "labels", json!({}));
    if metadata["labels"].is_object() {
        metadata["labels"]["kubernetes.io/metadata.name"] = json!(name);
    }
}

pub(super) fn fill_volume(volume: &mut Value) {
    if let Some(spec) = at(volume, "/spec") {
        fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill_text(spec, "volumeMode", "Filesystem");
        if let Some(path) = at(spec, "/hostPath") {
            fill(path, "type", "");
        }
    }
    fill(volume, "status", json!({}));
    fill_text(&mut volume["status"], "phase", "Pending");
}

pub(super) fn fill_claim(claim: &mut Value) {
    if let Some(spec) = at(claim, "/spec") {
        fill_text(spec, "volumeMode", "Filesystem");
    }
    fill(claim, "status", json!({}));
    fill_text(&mut claim["status"], "phase", "Pending");
}

pub(super) fn fill_binding(binding: &mut Value) {
    if let Some(role) = at(binding, "/roleRef") {
        fill_text(role, "apiGroup", RBAC);
    }
    for subject in items(binding, "/subjects") {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            fill_text(subject, "apiGroup", RBAC);
        }
    }
}

pub(super) fn fill_priority_class(class: &mut Value) {
    fill_text(class, "preemptionPolicy", "PreemptLowerPriority");
}

pub(super) fn fill_storage_class(class: &mut Value) {
    fill_text(class, "reclaimPolicy", "Delete");
    fill_text(class, "volumeBindingMode", "Immediate");
}

pub(super) fn fill_token_request(request: &mut Value) {
    fill(request, "spec", json!({}));
    fill(&mut request["spec"], "expirationSeconds", 3600);
}

pub(super) fn fill_api_service(service: &mut Value) {
    if let Some(service) = at(service, "/spec/service") {
        fill(service, "port", 443);
    }
}
