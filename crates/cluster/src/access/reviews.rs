//! The reviews: questions about access, answered in their status.

use std::collections::BTreeMap;

use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Attributes, Authorizer, Target, User};
use crate::status::ApiError;

/// The spec of SubjectAccessReview and its sisters.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<NonResourceAttributes>,
    user: Option<String>,
    groups: Option<Vec<String>>,
    uid: Option<String>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

impl User {
    /// The user as authentication objects spell it.
    pub(crate) fn to_value(&self) -> Value {
        let mut value = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            value["uid"] = self.uid.as_str().into();
        }
        if !self.extra.is_empty() {
            value["extra"] = json!(self.extra);
        }
        value
    }
}

/// SelfSubjectReview, for `kubectl auth whoami`.
pub fn whoami(user: &User, review: Value) -> Value {
    answered(review, json!({"userInfo": user.to_value()}))
}

impl Authorizer {
    /// SelfSubjectAccessReview: may the one who asks do this?
    pub fn review_self(&self, user: &User, review: Value) -> Result<Value, ApiError> {
        let spec = spec(&review)?;
        let request = attributes(&spec)?;
        Ok(self.answer(user, &request, review))
    }

    /// SubjectAccessReview: may somebody do this?
    pub fn review(&self, review: Value) -> Result<Value, ApiError> {
        let spec = spec(&review)?;
        let request = attributes(&spec)?;
        let user = subject(spec)?;
        Ok(self.answer(&user, &request, review))
    }

    /// LocalSubjectAccessReview: may somebody do this in this namespace?
    pub fn review_in(&self, namespace: &str, review: Value) -> Result<Value, ApiError> {
        let spec = spec(&review)?;
        let asked = spec
            .resource_attributes
            .as_ref()
            .and_then(|asked| asked.namespace.as_deref());
        if asked.unwrap_or_default() != namespace {
            return Err(ApiError::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {namespace}"
            )));
        }
        self.review(review)
    }

    /// SelfSubjectRulesReview: everything that the one who asks may do in a namespace.
    pub fn review_rules(&self, user: &User, review: Value) -> Result<Value, ApiError> {
        let namespace = review["spec"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for rule in self.rules(user, &namespace) {
            if let Some(urls) = &rule.non_resource_urls {
                paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls}));
            }
            if rule.resources.is_some() {
                resources.push(json!(rule));
            }
        }
        let status =
            json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
        Ok(answered(review, status))
    }

    fn answer(&self, user: &User, request: &Attributes, review: Value) -> Value {
        let decision = self.decide(user, request);
        let mut status = json!({"allowed": decision.allowed});
        if !decision.reason.is_empty() {
            status["reason"] = decision.reason.into();
        }
        answered(review, status)
    }
}

/// The review with its answer; a body that is no object is answered all the same.
pub(crate) fn answered(review: Value, status: Value) -> Value {
    let mut review = match review {
        Value::Object(review) => review,
        _ => Map::new(),
    };
    review.insert("status".to_owned(), status);
    Value::Object(review)
}

fn spec(review: &Value) -> Result<Spec, ApiError> {
    Spec::deserialize(&review["spec"])
        .map_err(|error| ApiError::bad_request(format!("cannot read the review's spec: {error}")))
}

fn subject(spec: Spec) -> Result<User, ApiError> {
    let user = User {
        name: spec.user.unwrap_or_default(),
        uid: spec.uid.unwrap_or_default(),
        groups: spec.groups.unwrap_or_default(),
        extra: spec.extra.unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(ApiError::bad_request(
            "spec.user: at least one of user or group must be specified",
        ));
    }
    Ok(user)
}

fn attributes(spec: &Spec) -> Result<Attributes, ApiError> {
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(of), None) => {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            Ok(Attributes {
                verb: text(&of.verb),
                target: Target::Resource {
                    group: text(&of.group),
                    version: text(&of.version),
                    resource: text(&of.resource),
                    subresource: text(&of.subresource),
                    namespace: text(&of.namespace),
                    name: text(&of.name),
                },
            })
        }
        (None, Some(of)) => Ok(Attributes::path(
            of.verb.as_deref().unwrap_or_default(),
            of.path.as_deref().unwrap_or_default(),
        )),
        _ => Err(ApiError::bad_request(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}
