//! Which writes a webhook is asked about.

use k8s_openapi::api::admissionregistration::v1::{MatchCondition, RuleWithOperations};
use sandlot_objects::cel::{self, Expression};
use sandlot_objects::selector::LabelSelector;
use serde_json::Value;

use super::configured::Hook;
use super::review;
use crate::admission::{AdmissionRequest, Resource};

/// The version in which a webhook wants to see this write, if one of its rules is about it.
///
/// That is the version of the request or, for a webhook that takes equivalent ones, another
/// in which the same objects are served.
pub(super) fn version<'a>(hook: &Hook, request: &'a AdmissionRequest) -> Option<&'a str> {
    let resource = &request.resource;
    let operation = request.operation.to_string();
    let about = |version: &&str| {
        hook.rules.iter().any(|rule| {
            has(rule.operations.as_deref(), &operation)
                && has(rule.api_groups.as_deref(), &resource.group)
                && has(rule.api_versions.as_deref(), version)
                && is_of_scope(rule, resource)
                && rule
                    .resources
                    .iter()
                    .flatten()
                    .any(|of| is_resource(of, resource))
        })
    };
    let others = resource
        .versions
        .iter()
        .map(String::as_str)
        .filter(|_| hook.equivalent);
    std::iter::once(resource.version.as_str())
        .chain(others)
        .find(about)
}

fn has(values: Option<&[String]>, wanted: &str) -> bool {
    values
        .unwrap_or_default()
        .iter()
        .any(|value| value == "*" || value == wanted)
}

fn is_of_scope(rule: &RuleWithOperations, resource: &Resource) -> bool {
    match rule.scope.as_deref() {
        Some("Namespaced") => resource.namespaced,
        Some("Cluster") => !resource.namespaced,
        _ => true,
    }
}

/// `pods`, `pods/exec`, `pods/*`, `*/scale`, `*` (no subresources) and `*/*` are what a rule
/// may name.
fn is_resource(of: &str, resource: &Resource) -> bool {
    let matches = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    match of.split_once('/') {
        None => resource.subresource.is_empty() && matches(of, &resource.resource),
        Some((whose, "*")) => matches(whose, &resource.resource),
        Some((whose, sub)) => matches(whose, &resource.resource) && sub == resource.subresource,
    }
}

/// Whether the webhook's selectors choose the write's namespace and object. Objects outside
/// namespaces have no namespace that could fail to be chosen.
pub(super) fn selects(
    hook: &Hook,
    request: &AdmissionRequest,
    namespace: impl Fn(&str) -> Option<Value>,
) -> bool {
    let chosen = if request.is_about("", "namespaces") {
        either(&hook.namespaces, request)
    } else if request.namespace.is_empty() || hook.namespaces.is_everything() {
        true
    } else {
        namespace(&request.namespace).is_none_or(|found| hook.namespaces.matches(&found))
    };
    chosen && either(&hook.objects, request)
}

/// Whether a selector chooses the new object or the old one.
fn either(selector: &LabelSelector, request: &AdmissionRequest) -> bool {
    let old = request.old_object.as_deref();
    selector.is_everything()
        || request
            .object
            .iter()
            .chain(old)
            .any(|object| selector.matches(object))
}

/// What evaluating all conditions of one webhook may cost.
const BUDGET: u64 = 1_000_000;
const VARIABLES: [&str; 3] = ["object", "oldObject", "request"];

/// A CEL expression that must hold for the webhook to be asked.
pub(super) struct Condition {
    name: String,
    expression: Result<Expression, String>,
}

impl Condition {
    pub(super) fn new(condition: &MatchCondition) -> Condition {
        let expression = Expression::compile(&condition.expression, &VARIABLES);
        Condition {
            name: condition.name.clone(),
            expression,
        }
    }

    fn holds(&self, variables: &[(&str, cel::Value)], budget: &mut u64) -> Result<bool, String> {
        let failed =
            |why: &dyn std::fmt::Display| format!("match condition {:?}: {why}", self.name);
        let expression = self.expression.as_ref().map_err(|why| failed(why))?;
        match expression.evaluate(variables, budget) {
            Ok(cel::Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err(failed(&"must evaluate to bool")),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Whether every condition holds. One that is false settles it, even when others fail.
pub(super) fn conditions_hold(hook: &Hook, request: &AdmissionRequest) -> Result<bool, String> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    let old = request.old_object.as_deref().unwrap_or(&Value::Null);
    let object = request.object.as_ref().unwrap_or(&Value::Null);
    let variables = [
        ("object", cel::of_json(object)),
        ("oldObject", cel::of_json(old)),
        ("request", cel::of_json(&review::attributes(request))),
    ];
    let mut budget = BUDGET;
    let mut failed = None;
    for condition in &hook.conditions {
        match condition.holds(&variables, &mut budget) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => failed = failed.or(Some(why)),
        }
    }
    failed.map_or(Ok(true), Err)
}
