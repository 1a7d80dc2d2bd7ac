//! Pods.

use serde_json::{Value, json};

use super::{at, fill, fill_text, items};

/// Permissions of projected files: 0644.
const FILE_MODE: i64 = 0o644;

pub(super) fn fill_pod(pod: &mut Value) {
    let Some(spec) = at(pod, "/spec") else { return };
    fill_text(spec, "restartPolicy", "Always");
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "schedulerName", "default-scheduler");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "securityContext", json!({}));
    fill(spec, "enableServiceLinks", true);
    same_account(spec);
    let host_network = spec["hostNetwork"] == true;
    for list in ["/containers", "/initContainers", "/ephemeralContainers"] {
        for container in items(spec, list) {
            fill_container(container);
            for port in items(container, "/ports").filter(|_| host_network) {
                let inside = port["containerPort"].clone();
                fill(port, "hostPort", inside);
            }
        }
    }
    for volume in items(spec, "/volumes") {
        fill_sources(volume);
    }
    for reference in items(spec, "/topologySpreadConstraints") {
        fill(reference, "nodeAffinityPolicy", "Honor");
        fill(reference, "nodeTaintsPolicy", "Ignore");
    }
}

/// The account has an old name and a new one; both are always there.
fn same_account(spec: &mut Value) {
    for (from, to) in [
        ("serviceAccountName", "serviceAccount"),
        ("serviceAccount", "serviceAccountName"),
    ] {
        if let Some(name) = spec[from]
            .as_str()
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
        {
            fill_text(spec, to, &name);
        }
    }
}

fn fill_container(container: &mut Value) {
    let policy = pull_policy(container["image"].as_str().unwrap_or_default());
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    request_the_limits(container);
    for port in items(container, "/ports") {
        fill_text(port, "protocol", "TCP");
    }
    for variable in items(container, "/env") {
        if let Some(field) = at(variable, "/valueFrom/fieldRef") {
            fill_text(field, "apiVersion", "v1");
        }
    }
    for probe in ["/livenessProbe", "/readinessProbe", "/startupProbe"] {
        if let Some(probe) = at(container, probe) {
            fill_probe(probe);
        }
    }
    for hook in ["/lifecycle/postStart/httpGet", "/lifecycle/preStop/httpGet"] {
        if let Some(get) = at(container, hook) {
            fill_http_get(get);
        }
    }
}

/// What is limited but not asked for is asked for as far as it is limited.
fn request_the_limits(container: &mut Value) {
    let Some(limits) = container
        .pointer("/resources/limits")
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    let Some(resources) = at(container, "/resources").filter(|_| !limits.is_empty()) else {
        return;
    };
    fill(resources, "requests", json!({}));
    for (name, limit) in limits {
        fill(&mut resources["requests"], &name, limit);
    }
}

fn fill_probe(probe: &mut Value) {
    // Zero stands for "not said", as everywhere in this type.
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe[key] == 0 {
            probe[key] = json!(value);
        }
        fill(probe, key, value);
    }
    if let Some(get) = at(probe, "/httpGet") {
        fill_http_get(get);
    }
    if let Some(grpc) = at(probe, "/grpc") {
        fill(grpc, "service", "");
    }
}

fn fill_http_get(get: &mut Value) {
    fill_text(get, "path", "/");
    fill_text(get, "scheme", "HTTP");
}

/// An image whose content can change is asked for every time.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let fixed = name.contains('@')
        || name
            .rsplit_once(':')
            .is_some_and(|(_, tag)| tag != "latest");
    if fixed { "IfNotPresent" } else { "Always" }
}

fn fill_sources(volume: &mut Value) {
    if volume
        .as_object()
        .is_some_and(|fields| fields.keys().all(|key| key == "name"))
    {
        volume["emptyDir"] = json!({});
    }
    for source in ["/configMap", "/secret", "/projected", "/downwardAPI"] {
        if let Some(source) = at(volume, source) {
            fill(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = at(volume, "/hostPath") {
        fill(path, "type", "");
    }
    if let Some(claim) = at(volume, "/ephemeral/volumeClaimTemplate/spec") {
        fill_text(claim, "volumeMode", "Filesystem");
    }
    for item in items(volume, "/downwardAPI/items") {
        fill_field(item);
    }
    for source in items(volume, "/projected/sources") {
        if let Some(token) = at(source, "/serviceAccountToken") {
            fill(token, "expirationSeconds", 3600);
        }
        for item in items(source, "/downwardAPI/items") {
            fill_field(item);
        }
    }
}

fn fill_field(item: &mut Value) {
    if let Some(field) = at(item, "/fieldRef") {
        fill_text(field, "apiVersion", "v1");
    }
}
