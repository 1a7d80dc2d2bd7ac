//! Pods.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Checks, container, entries, list, text, volume};
use crate::{
    meta::names,
    schema::{Cause, Path},
};

const IMMUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
     `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
     tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(checks: &mut Checks, pod: &Value, old: Option<&Value>) {
    let path = Path::of("spec");
    let spec = &pod["spec"];
    if !spec.is_object() {
        return checks.required(path, "");
    }
    // Most changes of pods are of labels and status: what stays as it was is not checked again.
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    check_spec(checks, &path, spec);
    if let Some(old) = old {
        check_change(checks, &path, spec, &old["spec"]);
    }
}

/// Containers are put into a pod only when it is there.
pub(super) fn check_new(checks: &mut Checks, pod: &Value) {
    if !list(&pod["spec"], "ephemeralContainers").is_empty() {
        let path = Path::of("spec").field("ephemeralContainers");
        checks.forbidden(path, "cannot be set on create");
    }
}

/// Containers that were put into a pod stay in it as they are.
pub(super) fn check_put_in(checks: &mut Checks, pod: &Value, old: &Value) {
    let path = Path::of("spec").field("ephemeralContainers");
    let wanted = list(&pod["spec"], "ephemeralContainers");
    for before in list(&old["spec"], "ephemeralContainers") {
        let name = text(before, "name").unwrap_or_default();
        let what = match wanted.iter().find(|one| text(one, "name") == Some(name)) {
            Some(now) if now == before => continue,
            Some(_) => "changed",
            None => "removed",
        };
        let detail = format!("existing ephemeral containers {name:?} may not be {what}\n");
        checks.forbidden(path.clone(), &detail);
    }
}

fn check_spec(checks: &mut Checks, path: &Path, spec: &Value) {
    checks.one_of(
        path,
        spec,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
    );
    checks.one_of(
        path,
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    if spec["dnsPolicy"] == "None" && list(&spec["dnsConfig"], "nameservers").is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        checks.required(path.field("dnsConfig").field("nameservers"), detail);
    }
    checks.not_negative(path, spec, "terminationGracePeriodSeconds");
    if spec["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds))
    {
        let at = path.field("activeDeadlineSeconds");
        checks.invalid(
            at,
            &spec["activeDeadlineSeconds"],
            "must be between 1 and 2147483647, inclusive",
        );
    }
    for (key, rule) in [
        (
            "serviceAccountName",
            names::subdomain as fn(&str) -> Vec<String>,
        ),
        ("nodeName", names::subdomain),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
    ] {
        if let Some(name) = text(spec, key) {
            checks.faults(path.field(key), &spec[key], rule(name));
        }
    }
    for (key, value) in entries(spec, "nodeSelector") {
        let at = path.field("nodeSelector");
        checks.faults(at.clone(), &json!(key), names::qualified_name(key));
        checks.faults(
            at,
            value,
            names::label_value(value.as_str().unwrap_or_default()),
        );
    }
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let at = path.field("hostAliases").index(index);
        if text(alias, "ip").is_none_or(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
            checks.invalid(
                at.field("ip"),
                &alias["ip"],
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }
    for (index, toleration) in list(spec, "tolerations").iter().enumerate() {
        check_toleration(checks, &path.field("tolerations").index(index), toleration);
    }
    let volumes = volume::check_all(checks, path, spec);
    check_containers(checks, path, spec, &volumes);
}

fn check_containers(checks: &mut Checks, path: &Path, spec: &Value, volumes: &volume::Named<'_>) {
    if list(spec, "containers").is_empty() {
        checks.required(path.field("containers"), "");
    }
    let host_network = spec["hostNetwork"] == true;
    let mut seen = HashSet::new();
    let mut host_ports = HashSet::new();
    for (key, kind) in [
        ("initContainers", container::Kind::Init),
        ("containers", container::Kind::Main),
        ("ephemeralContainers", container::Kind::Ephemeral),
    ] {
        for (index, one) in list(spec, key).iter().enumerate() {
            let at = path.field(key).index(index);
            container::check(checks, &at, one, kind, volumes);
            if kind == container::Kind::Ephemeral {
                check_target(checks, &at, one, spec);
            }
            if let Some(name) = text(one, "name")
                && !seen.insert(name)
            {
                checks.add(Cause::duplicate(at.field("name"), &one["name"]));
            }
            if kind == container::Kind::Main {
                container::check_host_ports(checks, &at, one, host_network, &mut host_ports);
            }
        }
    }
}

/// Whoever wants to see a container's processes names one of the pod's own.
fn check_target(checks: &mut Checks, path: &Path, ephemeral: &Value, spec: &Value) {
    let Some(target) = text(ephemeral, "targetContainerName") else {
        return;
    };
    let own = ["containers", "initContainers"].map(|key| list(spec, key));
    if !own
        .iter()
        .copied()
        .flatten()
        .any(|one| text(one, "name") == Some(target))
    {
        let at = path.field("targetContainerName");
        checks.add(Cause::not_found(at, &ephemeral["targetContainerName"]));
    }
}

fn check_toleration(checks: &mut Checks, path: &Path, toleration: &Value) {
    let operator = text(toleration, "operator").unwrap_or("Equal");
    match operator {
        "Equal" => {}
        "Exists" if text(toleration, "value").is_some() => {
            let detail = "value must be empty when `operator` is 'Exists'";
            checks.invalid(path.field("operator"), &toleration["value"], detail);
        }
        "Exists" => {}
        _ => {
            let at = path.field("operator");
            checks.add(Cause::not_supported(
                at,
                &toleration["operator"],
                &["Equal", "Exists"],
            ));
        }
    }
    if text(toleration, "key").is_none() && operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        checks.invalid(path.field("operator"), &json!(operator), detail);
    }
    if let Some(effect) = text(toleration, "effect")
        && !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect)
    {
        let allowed = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        checks.add(Cause::not_supported(
            path.field("effect"),
            &toleration["effect"],
            &allowed,
        ));
    }
}

/// A running pod hardly changes: images, a deadline, more tolerations, fewer gates.
fn check_change(checks: &mut Checks, path: &Path, new: &Value, old: &Value) {
    for key in ["containers", "initContainers"] {
        if list(new, key).len() != list(old, key).len() {
            let detail = "pod updates may not add or remove containers";
            return checks.forbidden(path.field(key), detail);
        }
    }
    let (deadline, before) = (
        new["activeDeadlineSeconds"].as_i64(),
        old["activeDeadlineSeconds"].as_i64(),
    );
    match (deadline, before) {
        (Some(deadline), Some(before)) if deadline > before => {
            let detail = format!("must be less than or equal to previous value: {before}");
            checks.invalid(
                path.field("activeDeadlineSeconds"),
                &new["activeDeadlineSeconds"],
                detail,
            );
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            checks.invalid(path.field("activeDeadlineSeconds"), &Value::Null, detail);
        }
        _ => {}
    }
    if list(old, "tolerations")
        .iter()
        .any(|one| !list(new, "tolerations").contains(one))
    {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        checks.forbidden(path.field("tolerations"), detail);
    }
    let gates = |spec: &Value| {
        list(spec, "schedulingGates")
            .iter()
            .filter_map(|gate| text(gate, "name").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let before = gates(old);
    if gates(new).iter().any(|gate| !before.contains(gate)) {
        let detail = "only deletion is allowed, but found new scheduling gates";
        checks.forbidden(path.field("schedulingGates"), detail);
    }
    if fixed_part(new) != fixed_part(old) {
        checks.forbidden(path.clone(), IMMUTABLE);
    }
}

/// A spec without what may change, and without what says nothing: clients differ in
/// whether they send an empty list.
fn fixed_part(spec: &Value) -> Value {
    let mut fixed = spec.clone();
    if let Some(fields) = fixed.as_object_mut() {
        for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
            fields.remove(key);
        }
        for key in ["containers", "initContainers"] {
            let containers = fields.get_mut(key).and_then(Value::as_array_mut);
            for container in containers
                .into_iter()
                .flatten()
                .filter_map(Value::as_object_mut)
            {
                container.remove("image");
            }
        }
        // A pod that is to end at once may be told so later.
        if fields
            .get("terminationGracePeriodSeconds")
            .and_then(Value::as_i64)
            .is_some_and(|seconds| seconds < 0)
        {
            fields.insert("terminationGracePeriodSeconds".into(), json!(1));
        }
    }
    drop_empty(&mut fixed);
    fixed
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|_, field| {
                !(field.is_null() || field.as_array().is_some_and(Vec::is_empty))
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}
