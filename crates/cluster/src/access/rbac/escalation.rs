//! Nobody grants what they do not hold themselves.

use std::fmt::Write;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde_json::Value;

use super::{Authorizer, everything, matching};
use crate::access::Attributes;
use crate::admission::{Admission, AdmissionRequest, Denied, Operation, Warnings};
use crate::kubelet::BoxFuture;
use crate::status::ApiError;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses roles and bindings that would give more than their author has.
///
/// The verbs `escalate` (on roles) and `bind` (on the role that a binding names) lift this.
pub struct NoEscalation {
    authorizer: Arc<Authorizer>,
}

impl NoEscalation {
    /// Judges by what this authorizer knows.
    pub fn new(authorizer: Arc<Authorizer>) -> Self {
        NoEscalation { authorizer }
    }

    fn check(&self, request: &AdmissionRequest) -> Result<(), Denied> {
        let Some(object) = &request.object else {
            return Ok(());
        };
        let granted = match request.resource.resource.as_str() {
            "roles" | "clusterroles" => self.granted_by_role(request, object)?,
            _ => self.granted_by_binding(request, object)?,
        };
        let held = self.authorizer.rules(&request.user, &request.namespace);
        let missing: Vec<&PolicyRule> = granted
            .iter()
            .filter(|rule| !matching::cover(&held, rule))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(request.forbidden(&words(request, &missing)))
        }
    }

    /// The rules that a role would newly give, unless its author may escalate.
    fn granted_by_role(
        &self,
        request: &AdmissionRequest,
        role: &Value,
    ) -> Result<Vec<PolicyRule>, Denied> {
        let old = request.old_object.as_deref();
        let unchanged = |field: &str| old.is_some_and(|old| old.get(field) == role.get(field));
        if (unchanged("rules") && unchanged("aggregationRule")) || self.may_escalate(request) {
            return Ok(Vec::new());
        }
        let mut granted = rules(role)?;
        if role
            .get("aggregationRule")
            .is_some_and(|rule| !rule.is_null())
        {
            // It will take in whatever carries its labels, so nothing less will do.
            granted.extend(everything());
        }
        Ok(granted)
    }

    /// The rules of the role that a binding names, unless its author may bind that role.
    fn granted_by_binding(
        &self,
        request: &AdmissionRequest,
        binding: &Value,
    ) -> Result<Vec<PolicyRule>, Denied> {
        let old = request.old_object.as_deref();
        if old.is_some_and(|old| {
            old.get("roleRef") == binding.get("roleRef")
                && old.get("subjects") == binding.get("subjects")
        }) {
            return Ok(Vec::new());
        }
        let role: RoleRef = binding
            .get("roleRef")
            .and_then(|role| serde_json::from_value(role.clone()).ok())
            .unwrap_or_default();
        let resource = if role.kind == "ClusterRole" {
            "clusterroles"
        } else {
            "roles"
        };
        let bind = Attributes::resource("bind", GROUP, &request.resource.version, resource)
            .in_namespace(&request.namespace)
            .named(&role.name);
        if self.authorizer.decide(&request.user, &bind).allowed {
            return Ok(Vec::new());
        }
        self.authorizer
            .rules_of(&request.namespace, &role)
            .ok_or_else(|| ApiError::not_found(GROUP, resource, &role.name))
    }

    fn may_escalate(&self, request: &AdmissionRequest) -> bool {
        let resource = &request.resource;
        let escalate =
            Attributes::resource("escalate", GROUP, &resource.version, &resource.resource)
                .in_namespace(&request.namespace)
                .named(&request.name);
        self.authorizer.decide(&request.user, &escalate).allowed
    }
}

impl Admission for NoEscalation {
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        let resource = &request.resource;
        resource.group == GROUP
            && resource.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async { self.check(request).map(|()| Warnings::new()) })
    }
}

fn rules(role: &Value) -> Result<Vec<PolicyRule>, Denied> {
    let rules = role.get("rules").filter(|rules| !rules.is_null());
    rules.map_or(Ok(Vec::new()), |rules| {
        serde_json::from_value(rules.clone())
            .map_err(|error| ApiError::bad_request(format!("cannot read rules: {error}")))
    })
}

fn words(request: &AdmissionRequest, missing: &[&PolicyRule]) -> String {
    let user = &request.user;
    let mut words = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:",
        user.name, user.groups
    )
    .replace("\", \"", "\" \"");
    for rule in missing {
        let mut parts = Vec::new();
        let mut part = |name: &str, values: &[String]| {
            if !values.is_empty() {
                parts.push(format!("{name}:{values:?}").replace("\", \"", "\" \""));
            }
        };
        part("APIGroups", rule.api_groups.as_deref().unwrap_or_default());
        part("Resources", rule.resources.as_deref().unwrap_or_default());
        part(
            "ResourceNames",
            rule.resource_names.as_deref().unwrap_or_default(),
        );
        part(
            "NonResourceURLs",
            rule.non_resource_urls.as_deref().unwrap_or_default(),
        );
        part("Verbs", &rule.verbs);
        // Writing to a string cannot fail.
        let _ = write!(words, "\n{{{}}}", parts.join(", "));
    }
    words
}
