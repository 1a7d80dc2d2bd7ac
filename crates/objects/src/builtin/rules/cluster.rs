//! Events, leases and the small kinds of the cluster.

use serde_json::{Value, json};

use super::{Checks, entries, text};
use crate::{builtin::quantity, meta::names, schema::Path};

/// Priorities from here on are the system's own.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// An event lies in the namespace of what it is about; what has none is told of in `default`.
pub(super) fn check_event(checks: &mut Checks, event: &Value) {
    let about = text(&event["involvedObject"], "namespace");
    let own = text(&event["metadata"], "namespace").unwrap_or_default();
    let fits = match about {
        Some(about) => about == own,
        None => own.is_empty() || own == "default",
    };
    if !fits {
        let at = Path::of("involvedObject.namespace");
        checks.invalid(
            at,
            &json!(about.unwrap_or_default()),
            "does not match event.namespace",
        );
    }
}

pub(super) fn check_lease(checks: &mut Checks, lease: &Value) {
    let (path, spec) = (Path::of("spec"), &lease["spec"]);
    if spec["leaseDurationSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds <= 0)
    {
        checks.invalid(
            path.field("leaseDurationSeconds"),
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        );
    }
    checks.not_negative(&path, spec, "leaseTransitions");
}

pub(super) fn check_priority_class(checks: &mut Checks, class: &Value, old: Option<&Value>) {
    let system = text(&class["metadata"], "name").is_some_and(|name| name.starts_with("system-"));
    if class["value"]
        .as_i64()
        .is_some_and(|value| value > HIGHEST_PRIORITY)
        && !system
    {
        let detail =
            format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
        checks.forbidden(Path::of("value"), &detail);
    }
    checks.one_of(
        &Path::root(),
        class,
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
    );
    let Some(old) = old else { return };
    if class["value"] != old["value"] {
        checks.forbidden(Path::of("value"), "may not be changed in an update.");
    }
    if class["preemptionPolicy"] != old["preemptionPolicy"] {
        checks.same(
            Path::of("preemptionPolicy"),
            &class["preemptionPolicy"],
            &old["preemptionPolicy"],
        );
    }
}

pub(super) fn check_runtime_class(checks: &mut Checks, class: &Value, old: Option<&Value>) {
    if let Some(handler) = checks.text(&Path::root(), class, "handler") {
        checks.faults(
            Path::of("handler"),
            &class["handler"],
            names::label(handler),
        );
    }
    if let Some(old) = old {
        checks.same(Path::of("handler"), &class["handler"], &old["handler"]);
    }
}

pub(super) fn check_quota(checks: &mut Checks, quota: &Value) {
    for (name, amount) in entries(&quota["spec"], "hard") {
        let written = amount
            .as_str()
            .map_or_else(|| amount.to_string(), str::to_owned);
        if quantity::parse(&written).is_none_or(|amount| amount < 0) {
            let at = Path::of("spec.hard").key(name);
            checks.invalid(at, amount, "must be greater than or equal to 0");
        }
    }
}

pub(super) fn check_api_service(checks: &mut Checks, service: &Value) {
    let spec = &service["spec"];
    let (group, version) = (
        text(spec, "group").unwrap_or_default(),
        text(spec, "version").unwrap_or_default(),
    );
    let expected = format!("{version}.{group}");
    if service["metadata"]["name"] != expected {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
        checks.invalid(
            Path::of("metadata.name"),
            &service["metadata"]["name"],
            detail,
        );
    }
}
