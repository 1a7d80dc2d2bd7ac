//! Containers of a pod.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{Checks, entries, list, port_name, probe, text, volume};
use crate::{
    builtin::quantity,
    meta::names,
    schema::{Cause, Path},
};

/// Which list of the pod a container stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Init,
    Main,
    Ephemeral,
}

pub(super) fn check(
    checks: &mut Checks,
    path: &Path,
    container: &Value,
    kind: Kind,
    volumes: &volume::Named<'_>,
) {
    if let Some(name) = checks.text(path, container, "name") {
        checks.faults(path.field("name"), &container["name"], names::label(name));
    }
    if let Some(image) = checks.text(path, container, "image")
        && image.trim() != image
    {
        let detail = "must not have leading or trailing whitespace";
        checks.invalid(path.field("image"), &container["image"], detail);
    }
    checks.one_of(
        path,
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
    );
    checks.one_of(
        path,
        container,
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
    );
    check_ports(checks, &path.field("ports"), container);
    check_environment(checks, path, container);
    volume::check_mounts(checks, path, container, volumes);
    check_resources(checks, &path.field("resources"), &container["resources"]);
    let sidecar = kind == Kind::Init && container["restartPolicy"] == "Always";
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &container[name];
        if probe.is_null() {
            continue;
        }
        match kind {
            Kind::Main => probe::check(checks, &path.field(name), probe, name != "readinessProbe"),
            Kind::Init if sidecar => {
                probe::check(checks, &path.field(name), probe, name != "readinessProbe")
            }
            Kind::Init => checks.forbidden(
                path.field(name),
                "may not be set for init containers without restartPolicy=Always",
            ),
            Kind::Ephemeral => {}
        }
    }
    if kind == Kind::Ephemeral {
        check_ephemeral(checks, path, container);
    }
    for hook in ["postStart", "preStop"] {
        let handler = &container["lifecycle"][hook];
        if !handler.is_null() {
            probe::check_handler(checks, &path.field("lifecycle").field(hook), handler);
        }
    }
}

/// What only makes sense for a container that the pod was made with.
const NOT_PUT_IN: [&str; 8] = [
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
];

fn check_ephemeral(checks: &mut Checks, path: &Path, container: &Value) {
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    let says_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    for name in NOT_PUT_IN {
        if !says_nothing(&container[name]) {
            checks.forbidden(path.field(name), DETAIL);
        }
    }
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        for name in ["subPath", "subPathExpr"] {
            if text(mount, name).is_some() {
                let at = path.field("volumeMounts").index(index).field(name);
                checks.forbidden(at, DETAIL);
            }
        }
    }
}

fn check_ports(checks: &mut Checks, path: &Path, container: &Value) {
    let mut names = HashSet::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let at = path.index(index);
        if let Some(name) = text(port, "name") {
            let faults = port_name(name);
            if faults.is_empty() && !names.insert(name) {
                checks.add(Cause::duplicate(at.field("name"), &port["name"]));
            }
            checks.faults(at.field("name"), &port["name"], faults);
        }
        match &port["containerPort"] {
            Value::Null => checks.required(at.field("containerPort"), ""),
            value if value == 0 => checks.required(at.field("containerPort"), ""),
            value => checks.port(at.field("containerPort"), value),
        }
        if !port["hostPort"].is_null() && port["hostPort"] != 0 {
            checks.port(at.field("hostPort"), &port["hostPort"]);
        }
        checks.one_of(&at, port, "protocol", &["SCTP", "TCP", "UDP"]);
    }
}

/// Ports of the host are taken once, and are the container's own on the host's network.
pub(super) fn check_host_ports<'v>(
    checks: &mut Checks,
    path: &Path,
    container: &'v Value,
    host_network: bool,
    taken: &mut HashSet<(i64, &'v str, &'v str)>,
) {
    for (index, port) in list(container, "ports").iter().enumerate() {
        let Some(number) = port["hostPort"].as_i64().filter(|&number| number != 0) else {
            continue;
        };
        let at = path.field("ports").index(index);
        if host_network && port["hostPort"] != port["containerPort"] {
            checks.invalid(
                at.field("containerPort"),
                &port["containerPort"],
                "must match `hostPort` when `hostNetwork` is true",
            );
        }
        let key = (
            number,
            text(port, "protocol").unwrap_or_default(),
            text(port, "hostIP").unwrap_or_default(),
        );
        if !taken.insert(key) {
            let shown = json!(format!("{}/{}/{}", key.1, key.2, key.0));
            checks.add(Cause::duplicate(at.field("hostPort"), &shown));
        }
    }
}

fn check_environment(checks: &mut Checks, path: &Path, container: &Value) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let at = path.field("env").index(index);
        if let Some(name) = checks.text(&at, variable, "name")
            && !name
                .bytes()
                .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
        {
            let detail = "a valid environment variable name must consist only of printable ASCII characters other than '='";
            checks.invalid(at.field("name"), &variable["name"], detail);
        }
        let from = &variable["valueFrom"];
        if from.is_null() {
            continue;
        }
        let at = at.field("valueFrom");
        let sources = [
            "fieldRef",
            "resourceFieldRef",
            "configMapKeyRef",
            "secretKeyRef",
            "fileKeyRef",
        ];
        match sources.iter().filter(|&&source| !from[source].is_null()).count() {
            0 => checks.invalid(at.clone(), &json!(""), "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"),
            1 => {}
            _ => checks.invalid(at.clone(), &json!(""), "may not have more than one field specified at a time"),
        }
        if text(variable, "value").is_some() {
            checks.invalid(
                at.clone(),
                &json!(""),
                "may not be specified when `value` is not empty",
            );
        }
        for source in ["configMapKeyRef", "secretKeyRef"] {
            if !from[source].is_null() {
                checks.text(&at.field(source), &from[source], "key");
            }
        }
        if !from["fieldRef"].is_null() {
            checks.text(&at.field("fieldRef"), &from["fieldRef"], "fieldPath");
        }
    }
}

/// What is asked for must be an amount, and at most what is allowed.
pub(super) fn check_resources(checks: &mut Checks, path: &Path, resources: &Value) {
    let mut limits = HashMap::new();
    for key in ["limits", "requests"] {
        for (name, amount) in entries(resources, key) {
            let at = path.field(key).key(name);
            let written = amount
                .as_str()
                .map_or_else(|| amount.to_string(), str::to_owned);
            let Some(parsed) = quantity::parse(&written) else {
                checks.invalid(at, amount, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
                continue;
            };
            if parsed < 0 {
                checks.invalid(at, amount, "must be greater than or equal to 0");
            } else if key == "limits" {
                limits.insert(name, (parsed, written));
            } else if let Some((limit, shown)) = limits.get(name)
                && parsed > *limit
            {
                let detail = format!("must be less than or equal to {name} limit of {shown}");
                checks.invalid(path.field("requests"), &json!(written), detail);
            }
        }
    }
}
