//! Webhooks and admission policies.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Checks, list, text};
use crate::{
    cel::Expression,
    meta::names,
    schema::{Cause, Path},
};

/// The names that expressions of policies and match conditions may use.
const VARIABLES: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
    "authorizer",
    "variables",
];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

pub(super) fn check_webhooks(checks: &mut Checks, configuration: &Value) {
    let mut seen = HashSet::new();
    for (index, webhook) in list(configuration, "webhooks").iter().enumerate() {
        let at = Path::of("webhooks").index(index);
        if let Some(name) = checks.text(&at, webhook, "name") {
            let mut faults = names::subdomain(name);
            if faults.is_empty() && name.split('.').count() < 3 {
                faults.push(
                    "should be a domain with at least three segments separated by dots".to_owned(),
                );
            }
            checks.faults(at.field("name"), &webhook["name"], faults);
            if !seen.insert(name) {
                checks.add(Cause::duplicate(at.field("name"), &webhook["name"]));
            }
        }
        check_webhook(checks, &at, webhook);
    }
}

fn check_webhook(checks: &mut Checks, path: &Path, webhook: &Value) {
    check_client(
        checks,
        &path.field("clientConfig"),
        &webhook["clientConfig"],
    );
    checks.one_of(path, webhook, "sideEffects", &["None", "NoneOnDryRun"]);
    checks.one_of(path, webhook, "failurePolicy", &["Fail", "Ignore"]);
    checks.one_of(path, webhook, "matchPolicy", &["Equivalent", "Exact"]);
    if webhook["timeoutSeconds"]
        .as_i64()
        .is_some_and(|seconds| !(1..=30).contains(&seconds))
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        checks.invalid(
            path.field("timeoutSeconds"),
            &webhook["timeoutSeconds"],
            detail,
        );
    }
    let versions = list(webhook, "admissionReviewVersions");
    let at = path.field("admissionReviewVersions");
    if versions.is_empty() {
        checks.required(at, "must specify one of v1, v1beta1");
    } else if !versions
        .iter()
        .any(|version| version == "v1" || version == "v1beta1")
    {
        checks.invalid(
            at,
            &webhook["admissionReviewVersions"],
            "must include at least one of v1, v1beta1",
        );
    }
    for (index, rule) in list(webhook, "rules").iter().enumerate() {
        check_rule(checks, &path.field("rules").index(index), rule);
    }
    check_conditions(
        checks,
        &path.field("matchConditions"),
        list(webhook, "matchConditions"),
    );
}

fn check_client(checks: &mut Checks, path: &Path, client: &Value) {
    match (text(client, "url"), client["service"].is_object()) {
        (None, false) | (Some(_), true) => {
            checks.required(path.clone(), "exactly one of url or service is required")
        }
        (Some(url), false) if !url.starts_with("https://") => {
            let detail =
                "'https' is the only allowed URL scheme; desired format: https://host[/path]";
            checks.invalid(path.field("url"), &client["url"], detail);
        }
        (Some(_), false) => {}
        (None, true) => {
            let at = path.field("service");
            checks.text(&at, &client["service"], "name");
            checks.text(&at, &client["service"], "namespace");
        }
    }
}

fn check_rule(checks: &mut Checks, path: &Path, rule: &Value) {
    for key in ["operations", "apiGroups", "apiVersions", "resources"] {
        if list(rule, key).is_empty() {
            checks.required(path.field(key), "");
        }
    }
    for (index, operation) in list(rule, "operations").iter().enumerate() {
        if !operation
            .as_str()
            .is_some_and(|operation| OPERATIONS.contains(&operation))
        {
            let at = path.field("operations").index(index);
            checks.add(Cause::not_supported(at, operation, OPERATIONS));
        }
    }
    checks.one_of(path, rule, "scope", &["*", "Cluster", "Namespaced"]);
}

fn check_conditions(checks: &mut Checks, path: &Path, conditions: &[Value]) {
    if conditions.len() > 64 {
        checks.add(Cause::too_many(path, conditions.len(), 64));
    }
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if let Some(name) = checks.text(&at, condition, "name") {
            checks.faults(
                at.field("name"),
                &condition["name"],
                names::qualified_name(name),
            );
        }
        check_expression(checks, &at, condition);
    }
}

fn check_expression(checks: &mut Checks, path: &Path, of: &Value) {
    if let Some(expression) = checks.text(path, of, "expression")
        && let Err(error) = Expression::compile(expression, VARIABLES)
    {
        checks.invalid(
            path.field("expression"),
            &json!(expression),
            format!("compilation failed: {error}"),
        );
    }
}

pub(super) fn check_policy(checks: &mut Checks, policy: &Value) {
    let (path, spec) = (Path::of("spec"), &policy["spec"]);
    checks.one_of(&path, spec, "failurePolicy", &["Fail", "Ignore"]);
    let matching = path.field("matchConstraints");
    if !spec["matchConstraints"].is_object() {
        checks.required(matching.clone(), "");
    } else if list(&spec["matchConstraints"], "resourceRules").is_empty() {
        checks.required(matching.field("resourceRules"), "");
    }
    for (index, rule) in list(&spec["matchConstraints"], "resourceRules")
        .iter()
        .enumerate()
    {
        check_rule(checks, &matching.field("resourceRules").index(index), rule);
    }
    if list(spec, "validations").is_empty() && list(spec, "auditAnnotations").is_empty() {
        let detail = "validations or auditAnnotations must be non-empty";
        checks.required(path.field("validations"), detail);
    }
    for key in ["validations", "variables"] {
        for (index, one) in list(spec, key).iter().enumerate() {
            check_expression(checks, &path.field(key).index(index), one);
        }
    }
    check_conditions(
        checks,
        &path.field("matchConditions"),
        list(spec, "matchConditions"),
    );
}

pub(super) fn check_policy_binding(checks: &mut Checks, binding: &Value) {
    let (path, spec) = (Path::of("spec"), &binding["spec"]);
    checks.text(&path, spec, "policyName");
    let (at, actions) = (
        path.field("validationActions"),
        list(spec, "validationActions"),
    );
    if actions.is_empty() {
        checks.required(at.clone(), "");
    }
    let allowed = ["Audit", "Deny", "Warn"];
    for action in actions.iter().filter(|action| {
        !action
            .as_str()
            .is_some_and(|action| allowed.contains(&action))
    }) {
        checks.add(Cause::not_supported(&at, action, &allowed));
    }
    if actions.contains(&json!("Deny")) && actions.contains(&json!("Warn")) {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        checks.invalid(at, &spec["validationActions"], detail);
    }
}
