//! ValidatingAdmissionPolicies: rules in CEL about writes, bound to where they hold.

mod configured;
mod params;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sandlot_objects::cel;
use serde_json::Value;

use super::condition::{self, Variables};
use super::{Admission, AdmissionRequest, Denied, Warnings};
use crate::kubelet::BoxFuture;
use crate::lookup::Lookup;
use crate::status::Reason;
use configured::{Binding, Bound, Index, Policy, Rule};

/// What evaluating one policy may cost.
const BUDGET: u64 = 1_000_000;

/// Holds writes against the cluster's policies.
pub struct Policies {
    lookup: Arc<dyn Lookup>,
    index: Mutex<Index>,
}

/// What a policy found wrong.
struct Fault {
    message: String,
    reason: Reason,
}

impl Policies {
    /// Reads policies, bindings and namespaces here.
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        let index = Mutex::new(Index::new(&*lookup));
        Policies { lookup, index }
    }

    /// The policies that are bound to anything.
    fn bound(&self) -> Arc<[Bound]> {
        // A panic cannot leave the index half changed in a way that matters: it is built anew.
        let index = self.index.lock();
        index.unwrap_or_else(PoisonError::into_inner).bound()
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<Warnings, Denied> {
        let mut warnings = Warnings::new();
        for bound in self.bound().iter() {
            let Bound {
                policy, bindings, ..
            } = bound;
            let bindings: Vec<_> = bindings
                .iter()
                .filter(|binding| binding.matching.chooses(request, &*self.lookup))
                .collect();
            if bindings.is_empty() {
                continue;
            }
            let Some(version) = policy.matching.version(request, &*self.lookup) else {
                continue;
            };
            let seen = request.in_version(version).await?;
            for binding in bindings {
                for fault in self.faults(bound, binding, &seen) {
                    let what = format!(
                        "ValidatingAdmissionPolicy '{}' with binding '{}'",
                        policy.name, binding.name
                    );
                    if binding.denies {
                        return Err(denied(request, &what, &fault));
                    }
                    if binding.warns {
                        warnings.push(format!("Validation failed for {what}: {}", fault.message));
                    }
                }
            }
        }
        Ok(warnings)
    }

    /// What a policy finds wrong with a write. What cannot be evaluated is wrong too, unless
    /// the policy says otherwise.
    fn faults(&self, bound: &Bound, binding: &Binding, request: &AdmissionRequest) -> Vec<Fault> {
        let policy = &bound.policy;
        let failed = |why: String| match policy.ignored {
            true => Vec::new(),
            false => vec![Fault {
                message: why,
                reason: Reason::Invalid,
            }],
        };
        let params = match self.params(bound, binding, request) {
            Ok(params) => params,
            Err(why) => return failed(format!("failed to configure binding: {why}")),
        };
        let namespace = self
            .lookup
            .get("namespaces", "", &request.namespace)
            .unwrap_or(Value::Null);
        let mut variables = condition::variables(request);
        variables.push(("namespaceObject", cel::of_json(&namespace)));
        // One budget for all, however many objects a binding names.
        let mut budget = BUDGET;
        let mut faults = Vec::new();
        for params in params {
            let mut variables = variables.clone();
            variables.push(("params", cel::of_json(&params)));
            let found = policy.evaluate(&mut variables, &mut budget);
            faults.extend(found.unwrap_or_else(failed));
        }
        faults
    }

    /// The objects by which a policy is parametrized where it is bound; null where it has none.
    fn params(
        &self,
        bound: &Bound,
        binding: &Binding,
        request: &AdmissionRequest,
    ) -> Result<Vec<Value>, String> {
        match (&bound.params, &binding.params) {
            (Some(place), Some(wanted)) => {
                let place = place.as_ref().map_err(Clone::clone)?;
                params::of_binding(place, wanted, request, &*self.lookup)
            }
            _ => Ok(vec![Value::Null]),
        }
    }
}

impl Policy {
    fn evaluate(&self, variables: &mut Variables, budget: &mut u64) -> Result<Vec<Fault>, String> {
        if let Some(why) = &self.unusable {
            return Err(why.clone());
        }
        if !condition::all_hold(&self.conditions, variables, budget)? {
            return Ok(Vec::new());
        }
        let mut own: HashMap<String, cel::Value> = HashMap::new();
        for (name, expression) in &self.variables {
            let mut known = variables.clone();
            known.push(("variables", own.clone().into()));
            let value = expression.evaluate(&known, budget);
            own.insert(
                name.clone(),
                value.map_err(|error| format!("variable {name:?}: {error}"))?,
            );
        }
        variables.push(("variables", own.into()));
        let mut faults = Vec::new();
        for rule in &self.rules {
            match rule.expression.evaluate(variables, budget) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => faults.push(rule.fault(variables, budget)),
                Ok(_) => {
                    return Err(format!(
                        "expression '{}' must evaluate to bool",
                        rule.expression.text()
                    ));
                }
                Err(error) => {
                    let text = rule.expression.text();
                    return Err(format!("expression '{text}' resulted in error: {error}"));
                }
            }
        }
        Ok(faults)
    }
}

impl Rule {
    fn fault(&self, variables: &Variables, budget: &mut u64) -> Fault {
        let made = self.message_expression.as_ref().and_then(|expression| {
            match expression.evaluate(variables, budget) {
                Ok(cel::Value::String(text)) if !text.trim().is_empty() => Some(text.to_string()),
                _ => None,
            }
        });
        let message = made.or_else(|| self.message.clone());
        let message =
            message.unwrap_or_else(|| format!("failed expression: {}", self.expression.text()));
        Fault {
            message,
            reason: self.reason,
        }
    }
}

impl Admission for Policies {
    /// Policies never judge policies: a broken one could not be repaired.
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        request.resource.group != super::GROUP
    }

    /// Whichever policies there are may look at the whole object.
    fn reads(&self, _: &AdmissionRequest) -> bool {
        !self.bound().is_empty()
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async { self.check(request).await })
    }
}

fn denied(request: &AdmissionRequest, what: &str, fault: &Fault) -> Denied {
    let mut denied = request.forbidden(&format!("{what} denied request: {}", fault.message));
    denied.reason = fault.reason;
    denied.code = match fault.reason {
        Reason::Unauthorized => 401,
        Reason::Forbidden => 403,
        Reason::RequestEntityTooLarge => 413,
        _ => 422,
    };
    denied
}
