//! Whether a rule may stand in a definition.

use serde_json::{Value, json};

use super::{
    Expression,
    estimate::{RULE_LIMIT, estimate, excess},
    rules,
};
use crate::schema::{Cause, Path, Schema};

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];
/// How long the message of a rule may be.
const MAX_MESSAGE: usize = 2048;

/// Where a rule stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The shape of the value that the rule is about.
    pub(crate) schema: &'a Schema,
    /// How many such values one object has at most.
    pub(crate) count: u64,
    /// Whether the value's counterpart in an old object can be told.
    pub(crate) correlatable: bool,
}

/// Tells what is wrong with a rule, and what it costs at most.
pub(crate) fn check_rule(path: &Path, rule: &Value, place: Place<'_>) -> (Vec<Cause>, u64) {
    let mut causes = Vec::new();
    check_texts(path, rule, place.schema, &mut causes);
    let text = rule["rule"].as_str().unwrap_or_default();
    let at = path.field("rule");
    if text.trim().is_empty() {
        causes.push(Cause::required(at, "rule is not specified"));
        return (causes, 0);
    }
    let mut cost = 0;
    match compile(text, place.schema) {
        Ok((expression, each)) => {
            cost = each.saturating_mul(place.count);
            let transition = expression.names("oldSelf");
            if transition && !place.correlatable {
                let detail = "oldSelf cannot be used on the uncorrelatable portion of the schema";
                causes.push(Cause::invalid(&at, &json!(text), detail));
            }
            if !transition && !rule["optionalOldSelf"].is_null() {
                let detail = "may not be set if oldSelf is not used in rule";
                causes.push(Cause::invalid(
                    path.field("optionalOldSelf"),
                    &rule["optionalOldSelf"],
                    detail,
                ));
            }
            if let Some(detail) = excess(cost, RULE_LIMIT, "estimated rule cost") {
                causes.push(Cause::forbidden(&at, detail));
            }
        }
        Err(error) => causes.push(Cause::invalid(
            at,
            &json!(text),
            format!("compilation failed: {error}"),
        )),
    }
    if let Some(text) = rule["messageExpression"].as_str() {
        let at = path.field("messageExpression");
        match compile(text, place.schema) {
            Ok((_, each)) => {
                let each = each.saturating_mul(place.count);
                if let Some(detail) = excess(each, RULE_LIMIT, "estimated messageExpression cost") {
                    causes.push(Cause::forbidden(at, detail));
                }
                cost = cost.saturating_add(each);
            }
            Err(error) => {
                let detail = format!("messageExpression compilation failed: {error}");
                causes.push(Cause::invalid(at, &json!(text), detail));
            }
        }
    }
    (causes, cost)
}

fn compile(text: &str, schema: &Schema) -> Result<(Expression, u64), String> {
    let expression = Expression::compile(text, rules::VARIABLES)?;
    let cost = estimate(expression.plain(), schema)?;
    Ok((expression, cost))
}

fn check_texts(path: &Path, rule: &Value, schema: &Schema, causes: &mut Vec<Cause>) {
    if let Some(message) = rule["message"].as_str() {
        let at = path.field("message");
        if message.trim().is_empty() {
            causes.push(Cause::invalid(
                at,
                &json!(message),
                "message must be non-empty if specified",
            ));
        } else if message.len() > MAX_MESSAGE {
            causes.push(Cause::too_long(at, MAX_MESSAGE as u64));
        } else if message.contains(['\n', '\r']) {
            causes.push(Cause::invalid(
                at,
                &json!(message),
                "message must not contain line breaks",
            ));
        }
    } else if rule["rule"]
        .as_str()
        .is_some_and(|text| text.trim().contains('\n'))
    {
        let detail = "message must be specified if rule contains line breaks";
        causes.push(Cause::required(path.field("message"), detail));
    }
    if let Some(reason) = rule["reason"].as_str()
        && !REASONS.contains(&reason)
    {
        causes.push(Cause::not_supported(
            path.field("reason"),
            &json!(reason),
            REASONS,
        ));
    }
    if let Some(field) = rule["fieldPath"].as_str()
        && let Err(error) = rules::steps(field).and_then(|steps| rules::follow(&steps, schema))
    {
        let detail = format!("fieldPath must be a valid path: {error}");
        causes.push(Cause::invalid(
            path.field("fieldPath"),
            &json!(field),
            detail,
        ));
    }
}
