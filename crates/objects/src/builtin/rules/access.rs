//! Roles, bindings and tokens.

use serde_json::{Value, json};

use super::{Checks, list, text};
use crate::{
    meta::names,
    schema::{Cause, Path},
};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn check_role(checks: &mut Checks, role: &Value, namespaced: bool) {
    for (index, rule) in list(role, "rules").iter().enumerate() {
        check_rule(checks, &Path::of("rules").index(index), rule, namespaced);
    }
    for (index, selector) in list(&role["aggregationRule"], "clusterRoleSelectors")
        .iter()
        .enumerate()
    {
        if !selector.is_object() {
            checks.required(
                Path::of("aggregationRule.clusterRoleSelectors").index(index),
                "",
            );
        }
    }
}

/// A rule is about resources or about URLs, and allows something.
fn check_rule(checks: &mut Checks, path: &Path, rule: &Value, namespaced: bool) {
    if list(rule, "verbs").is_empty() {
        checks.required(path.field("verbs"), "verbs must contain at least one value");
    }
    let resources = ["apiGroups", "resources", "resourceNames"]
        .iter()
        .any(|key| !list(rule, key).is_empty());
    if !list(rule, "nonResourceURLs").is_empty() {
        let at = path.field("nonResourceURLs");
        if namespaced {
            checks.invalid(
                at,
                &rule["nonResourceURLs"],
                "namespaced rules cannot apply to non-resource URLs",
            );
        } else if resources {
            checks.invalid(
                at,
                &rule["nonResourceURLs"],
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if list(rule, "apiGroups").is_empty() {
        checks.required(
            path.field("apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if list(rule, "resources").is_empty() {
        checks.required(
            path.field("resources"),
            "resource rules must supply at least one resource",
        );
    }
}

pub(super) fn check_binding(
    checks: &mut Checks,
    binding: &Value,
    old: Option<&Value>,
    namespaced: bool,
) {
    let (path, role) = (Path::of("roleRef"), &binding["roleRef"]);
    if role["apiGroup"] != RBAC {
        checks.add(Cause::not_supported(
            path.field("apiGroup"),
            &role["apiGroup"],
            &[RBAC],
        ));
    }
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if !text(role, "kind").is_some_and(|kind| kinds.contains(&kind)) {
        checks.add(Cause::not_supported(
            path.field("kind"),
            &role["kind"],
            kinds,
        ));
    }
    if let Some(name) = checks.text(&path, role, "name") {
        checks.faults(path.field("name"), &role["name"], names::path_segment(name));
    }
    for (index, subject) in list(binding, "subjects").iter().enumerate() {
        check_subject(
            checks,
            &Path::of("subjects").index(index),
            subject,
            namespaced,
        );
    }
    if let Some(old) = old
        && old["roleRef"] != *role
    {
        checks.invalid(path, role, "cannot change roleRef");
    }
}

fn check_subject(checks: &mut Checks, path: &Path, subject: &Value, namespaced: bool) {
    let name = checks.text(path, subject, "name");
    let group = text(subject, "apiGroup").unwrap_or_default();
    match text(subject, "kind") {
        Some("ServiceAccount") => {
            if let Some(name) = name {
                checks.faults(path.field("name"), &subject["name"], names::subdomain(name));
            }
            if !group.is_empty() {
                checks.add(Cause::not_supported(
                    path.field("apiGroup"),
                    &json!(group),
                    &[""],
                ));
            }
            if text(subject, "namespace").is_none() && !namespaced {
                checks.required(path.field("namespace"), "");
            }
        }
        Some("User" | "Group") => {
            if group != RBAC {
                checks.add(Cause::not_supported(
                    path.field("apiGroup"),
                    &json!(group),
                    &[RBAC],
                ));
            }
        }
        _ => {
            let allowed = ["ServiceAccount", "User", "Group"];
            checks.add(Cause::not_supported(
                path.field("kind"),
                &subject["kind"],
                &allowed,
            ));
        }
    }
}

pub(super) fn check_token_request(checks: &mut Checks, request: &Value) {
    let (at, seconds) = (
        Path::of("spec.expirationSeconds"),
        &request["spec"]["expirationSeconds"],
    );
    match seconds.as_i64() {
        Some(number) if number < 600 => checks.invalid(
            at,
            seconds,
            "may not specify a duration less than 10 minutes",
        ),
        Some(number) if number > 1 << 32 => checks.invalid(
            at,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ),
        _ => {}
    }
}
