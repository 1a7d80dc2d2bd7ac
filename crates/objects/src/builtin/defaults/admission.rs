//! Webhooks and admission policies.

use serde_json::{Value, json};

use super::{at, fill, fill_text, items};

pub(super) fn fill_webhooks(configuration: &mut Value, mutating: bool) {
    for webhook in items(configuration, "/webhooks") {
        fill_text(webhook, "failurePolicy", "Fail");
        fill_selection(webhook);
        fill(webhook, "timeoutSeconds", 10);
        if mutating {
            fill_text(webhook, "reinvocationPolicy", "Never");
        }
        for rule in items(webhook, "/rules") {
            fill_text(rule, "scope", "*");
        }
        if let Some(service) = at(webhook, "/clientConfig/service") {
            fill(service, "port", 443);
        }
    }
}

pub(super) fn fill_policy(policy: &mut Value) {
    let Some(spec) = at(policy, "/spec") else {
        return;
    };
    fill_text(spec, "failurePolicy", "Fail");
    if let Some(matching) = at(spec, "/matchConstraints") {
        fill_matching(matching);
    }
}

pub(super) fn fill_policy_binding(binding: &mut Value) {
    if let Some(matching) = at(binding, "/spec/matchResources") {
        fill_matching(matching);
    }
}

fn fill_matching(matching: &mut Value) {
    fill_selection(matching);
    for list in ["/resourceRules", "/excludeResourceRules"] {
        for rule in items(matching, list) {
            fill_text(rule, "scope", "*");
        }
    }
}

/// What is not selected by anything in particular is selected by everything.
fn fill_selection(of: &mut Value) {
    fill_text(of, "matchPolicy", "Equivalent");
    fill(of, "namespaceSelector", json!({}));
    fill(of, "objectSelector", json!({}));
}
