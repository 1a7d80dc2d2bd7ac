//! Probes and lifecycle hooks of a container.

use serde_json::Value;

use super::{Checks, list};
use crate::schema::Path;

/// `once` is for probes of which one success must be enough.
pub(super) fn check(checks: &mut Checks, path: &Path, probe: &Value, once: bool) {
    check_handler(checks, path, probe);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        checks.not_negative(path, probe, key);
    }
    if once
        && probe["successThreshold"]
            .as_i64()
            .is_some_and(|successes| successes != 1)
    {
        checks.invalid(
            path.field("successThreshold"),
            &probe["successThreshold"],
            "must be 1",
        );
    }
    if probe["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds < 1)
    {
        let at = path.field("terminationGracePeriodSeconds");
        checks.invalid(
            at,
            &probe["terminationGracePeriodSeconds"],
            "must be greater than 0",
        );
    }
}

/// A handler does exactly one thing.
pub(super) fn check_handler(checks: &mut Checks, path: &Path, handler: &Value) {
    let kinds = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let set: Vec<&str> = kinds
        .into_iter()
        .filter(|kind| !handler[*kind].is_null())
        .collect();
    match set.as_slice() {
        [] => checks.required(path.clone(), "must specify a handler type"),
        [_] => {}
        [_, rest @ ..] => {
            for kind in rest {
                checks.forbidden(path.field(kind), "may not specify more than 1 handler type");
            }
        }
    }
    for kind in set {
        let (at, action) = (path.field(kind), &handler[kind]);
        match kind {
            "exec" if list(action, "command").is_empty() => {
                checks.required(at.field("command"), "")
            }
            "httpGet" => {
                checks.port_or_name(at.field("port"), &action["port"]);
                checks.one_of(&at, action, "scheme", &["HTTP", "HTTPS"]);
            }
            "tcpSocket" => checks.port_or_name(at.field("port"), &action["port"]),
            "grpc" => checks.port(at.field("port"), &action["port"]),
            "sleep" => checks.not_negative(&at, action, "seconds"),
            _ => {}
        }
    }
}
