//! CEL expressions that must hold for a webhook to be asked or a policy to be applied.

use k8s_openapi::api::admissionregistration::v1::MatchCondition;
use sandlot_objects::cel::{self, Expression};
use serde_json::{Value, json};

use super::AdmissionRequest;

/// What every expression about a write may name.
pub(super) const VARIABLES: [&str; 3] = ["object", "oldObject", "request"];

/// What the variables of an expression stand for.
pub(super) type Variables = Vec<(&'static str, cel::Value)>;

/// One condition.
pub(super) struct Condition {
    name: String,
    expression: Result<Expression, String>,
}

impl Condition {
    /// Compiles a condition. One that does not compile fails when it is asked.
    pub(super) fn new(condition: &MatchCondition) -> Condition {
        let expression = Expression::compile(&condition.expression, &VARIABLES);
        Condition {
            name: condition.name.clone(),
            expression,
        }
    }

    fn holds(&self, variables: &Variables, budget: &mut u64) -> Result<bool, String> {
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
pub(super) fn all_hold(
    conditions: &[Condition],
    variables: &Variables,
    budget: &mut u64,
) -> Result<bool, String> {
    let mut failed = None;
    for condition in conditions {
        match condition.holds(variables, budget) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => failed = failed.or(Some(why)),
        }
    }
    failed.map_or(Ok(true), Err)
}

/// A write, as expressions see it.
pub(super) fn variables(request: &AdmissionRequest) -> Variables {
    let object = |object: Option<&Value>| cel::of_json(object.unwrap_or(&Value::Null));
    vec![
        ("object", object(request.object.as_ref())),
        ("oldObject", object(request.old_object.as_deref())),
        ("request", cel::of_json(&attributes(request))),
    ]
}

/// What a write is, without the objects themselves: the request of an AdmissionReview.
pub(super) fn attributes(request: &AdmissionRequest) -> Value {
    let of = &request.resource;
    let kind = json!({"group": of.group, "version": of.version, "kind": of.kind});
    let resource = json!({"group": of.group, "version": of.version, "resource": of.resource});
    let mut attributes = json!({
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "operation": request.operation.to_string(),
        "userInfo": request.user.to_value(),
        "dryRun": request.dry_run,
        "options": request.options,
    });
    for (key, text) in [
        ("name", &request.name),
        ("namespace", &request.namespace),
        ("subResource", &of.subresource),
        ("requestSubResource", &of.subresource),
    ] {
        if !text.is_empty() {
            attributes[key] = text.as_str().into();
        }
    }
    attributes
}
