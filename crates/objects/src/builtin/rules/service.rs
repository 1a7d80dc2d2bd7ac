//! Services.

use std::{collections::HashSet, net::IpAddr};

use serde_json::{Value, json};

use super::{Checks, entries, list, text};
use crate::{
    meta::names,
    schema::{Cause, Path},
};

pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

pub(super) fn check_service(checks: &mut Checks, service: &Value, old: Option<&Value>) {
    let (path, spec) = (Path::of("spec"), &service["spec"]);
    if !spec.is_object() {
        return checks.required(path, "");
    }
    checks.one_of(
        &path,
        spec,
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    checks.one_of(&path, spec, "sessionAffinity", &["ClientIP", "None"]);
    let external = spec["type"] == "ExternalName";
    let headless = spec["clusterIP"] == "None";
    if list(spec, "ports").is_empty() && !headless && !external {
        checks.required(path.field("ports"), "");
    }
    check_ports(checks, &path.field("ports"), spec);
    for (key, value) in entries(spec, "selector") {
        let at = path.field("selector");
        checks.faults(at.clone(), &json!(key), names::qualified_name(key));
        checks.faults(
            at,
            value,
            names::label_value(value.as_str().unwrap_or_default()),
        );
    }
    if external {
        match text(spec, "externalName") {
            Some(name) => checks.faults(
                path.field("externalName"),
                &spec["externalName"],
                names::subdomain(name.trim_end_matches('.')),
            ),
            None => checks.required(path.field("externalName"), ""),
        }
        if text(spec, "clusterIP").is_some() {
            checks.forbidden(
                path.field("clusterIPs"),
                "may not be set when `type` is 'ExternalName'",
            );
        }
    } else if let Some(ip) = text(spec, "clusterIP")
        && !headless
        && ip.parse::<IpAddr>().is_err()
    {
        checks.invalid(
            path.field("clusterIPs").index(0),
            &spec["clusterIP"],
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
    check_affinity(checks, &path, spec);
    if let Some(old) = old {
        let (new_ip, old_ip) = (text(spec, "clusterIP"), text(&old["spec"], "clusterIP"));
        let stays = !external && old["spec"]["type"] != "ExternalName";
        if stays && old_ip.is_some() && new_ip != old_ip {
            checks.invalid(
                path.field("clusterIPs").index(0),
                &spec["clusterIP"],
                "may not change once set",
            );
        }
    }
}

fn check_affinity(checks: &mut Checks, path: &Path, spec: &Value) {
    let at = path.field("sessionAffinityConfig");
    let timeout = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if spec["sessionAffinity"] == "None" && !spec["sessionAffinityConfig"].is_null() {
        checks.forbidden(at, "must not be set when session affinity is None");
    } else if timeout
        .as_i64()
        .is_some_and(|seconds| !(1..=86_400).contains(&seconds))
    {
        let at = at.field("clientIP").field("timeoutSeconds");
        checks.invalid(at, timeout, "must be greater than 0 and less than 86400");
    }
}

fn check_ports(checks: &mut Checks, path: &Path, spec: &Value) {
    let ports = list(spec, "ports");
    let (mut names_seen, mut seen) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = path.index(index);
        match text(port, "name") {
            Some(name) => {
                checks.faults(at.field("name"), &port["name"], names::label(name));
                if !names_seen.insert(name) {
                    checks.add(Cause::duplicate(at.field("name"), &port["name"]));
                }
            }
            None if ports.len() > 1 => checks.required(at.field("name"), ""),
            None => {}
        }
        checks.port(at.field("port"), &port["port"]);
        checks.one_of(&at, port, "protocol", PROTOCOLS);
        checks.port_or_name(at.field("targetPort"), &port["targetPort"]);
        if !port["nodePort"].is_null() && port["nodePort"] != 0 {
            if spec["type"] == "ClusterIP" {
                checks.forbidden(
                    at.field("nodePort"),
                    "may not be used when `type` is 'ClusterIP'",
                );
            }
            checks.port(at.field("nodePort"), &port["nodePort"]);
        }
        let (protocol, number) = (&port["protocol"], &port["port"]);
        if !seen.insert((protocol.to_string(), number.to_string())) {
            checks.add(Cause::duplicate(
                at,
                &json!({"protocol": protocol, "port": number}),
            ));
        }
    }
}
