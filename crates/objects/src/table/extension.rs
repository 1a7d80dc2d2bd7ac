//! The rows of what extends the API: webhooks, admission policies and API services.

use jiff::Timestamp;
use serde_json::Value;

use super::{created, list, name, or_none, text};

pub(super) const WEBHOOKS: &str = "Name|Webhooks#|Age";
pub(super) const POLICY: &str = "Name|Validations#|ParamKind|Age";
pub(super) const BINDING: &str = "Name|PolicyName|ParamRef|Age";
pub(super) const SERVICE: &str = "Name|Service|Available|Age";

pub(super) fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = list(object, "/webhooks").len();
    vec![
        name(object).into(),
        count.into(),
        created(object, now).into(),
    ]
}

pub(super) fn policy(policy: &Value, now: Timestamp) -> Vec<Value> {
    let param = match text(policy, "/spec/paramKind/kind") {
        "" => "<unset>".to_owned(),
        kind => format!("{}/{kind}", text(policy, "/spec/paramKind/apiVersion")),
    };
    vec![
        name(policy).into(),
        list(policy, "/spec/validations").len().into(),
        param.into(),
        created(policy, now).into(),
    ]
}

pub(super) fn binding(binding: &Value, now: Timestamp) -> Vec<Value> {
    let reference = |field: &str| text(binding, &format!("/spec/paramRef/{field}"));
    let param = match (reference("namespace"), reference("name")) {
        _ if binding.pointer("/spec/paramRef").is_none() => "<unset>".to_owned(),
        (namespace, "") => or_none(namespace).to_owned(),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![
        name(binding).into(),
        text(binding, "/spec/policyName").into(),
        param.into(),
        created(binding, now).into(),
    ]
}

pub(super) fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let behind = match text(service, "/spec/service/name") {
        "" => "Local".to_owned(),
        name => format!("{}/{name}", text(service, "/spec/service/namespace")),
    };
    let available = list(service, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == "Available");
    let available = match available.map(|found| (text(found, "/status"), text(found, "/reason"))) {
        Some(("True", _)) => "True".to_owned(),
        Some((status, reason)) => format!("{status} ({reason})"),
        None => "Unknown".to_owned(),
    };
    vec![
        name(service).into(),
        behind.into(),
        available.into(),
        created(service, now).into(),
    ]
}
