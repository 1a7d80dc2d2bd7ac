//! The policies that are bound, ready to be evaluated.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{
    ParamKind, ParamRef, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec, Validation,
};
use sandlot_objects::cel::Expression;
use serde::de::DeserializeOwned;

use super::params::{Kinds, Place};
use crate::admission::GROUP;
use crate::admission::condition::{Condition, VARIABLES};
use crate::admission::matching::Matching;
use crate::lookup::{Change, Changes, Follow, Lookup};
use crate::status::Reason;

/// A policy, compiled.
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) matching: Matching,
    pub(super) conditions: Vec<Condition>,
    pub(super) variables: Vec<(String, Expression)>,
    pub(super) rules: Vec<Rule>,
    /// The kind of the objects that it is parametrized by.
    params: Option<ParamKind>,
    /// Why it cannot be evaluated at all.
    pub(super) unusable: Option<String>,
    /// Whether a write goes on when the policy cannot be evaluated.
    pub(super) ignored: bool,
}

/// One of the things that a policy asks for.
pub(super) struct Rule {
    pub(super) expression: Expression,
    pub(super) message: Option<String>,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: Reason,
}

/// Where a policy holds, and what happens to what breaks it.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) matching: Matching,
    pub(super) denies: bool,
    pub(super) warns: bool,
    /// Which objects it is parametrized by.
    pub(super) params: Option<ParamRef>,
    policy: String,
}

/// A policy with its bindings.
pub(super) struct Bound {
    pub(super) policy: Arc<Policy>,
    pub(super) bindings: Vec<Arc<Binding>>,
    /// Where the objects lie that it is parametrized by, or why nobody knows.
    pub(super) params: Option<Result<Place, String>>,
}

impl Policy {
    fn new(policy: ValidatingAdmissionPolicy) -> Policy {
        let spec = policy.spec.unwrap_or_default();
        let (mut variables, mut rules) = (Vec::new(), Vec::new());
        let unusable = compile(&spec, &mut variables, &mut rules).err();
        Policy {
            name: policy.metadata.name.unwrap_or_default(),
            conditions: spec
                .match_conditions
                .unwrap_or_default()
                .iter()
                .map(Condition::new)
                .collect(),
            matching: Matching::of_resources(spec.match_constraints),
            params: spec.param_kind,
            variables,
            rules,
            unusable,
            ignored: spec.failure_policy.as_deref() == Some("Ignore"),
        }
    }
}

fn compile(
    spec: &ValidatingAdmissionPolicySpec,
    variables: &mut Vec<(String, Expression)>,
    rules: &mut Vec<Rule>,
) -> Result<(), String> {
    let known: Vec<&str> = VARIABLES
        .into_iter()
        .chain(["namespaceObject", "variables"])
        .chain(spec.param_kind.is_some().then_some("params"))
        .collect();
    for variable in spec.variables.iter().flatten() {
        variables.push((
            variable.name.clone(),
            Expression::compile(&variable.expression, &known)?,
        ));
    }
    for validation in spec.validations.iter().flatten() {
        rules.push(Rule::new(validation, &known)?);
    }
    Ok(())
}

impl Rule {
    fn new(validation: &Validation, known: &[&str]) -> Result<Rule, String> {
        let message = validation.message_expression.as_deref();
        Ok(Rule {
            expression: Expression::compile(&validation.expression, known)?,
            message: validation.message.clone(),
            message_expression: message
                .map(|text| Expression::compile(text, known))
                .transpose()?,
            reason: match validation.reason.as_deref() {
                Some("Unauthorized") => Reason::Unauthorized,
                Some("Forbidden") => Reason::Forbidden,
                Some("RequestEntityTooLarge") => Reason::RequestEntityTooLarge,
                _ => Reason::Invalid,
            },
        })
    }
}

impl Binding {
    fn new(binding: ValidatingAdmissionPolicyBinding) -> Binding {
        let spec = binding.spec.unwrap_or_default();
        let actions = spec.validation_actions.unwrap_or_default();
        let does = |action: &str| actions.iter().any(|one| one == action);
        Binding {
            name: binding.metadata.name.unwrap_or_default(),
            matching: Matching::of_binding(spec.match_resources),
            denies: does("Deny"),
            warns: does("Warn"),
            params: spec.param_ref,
            policy: spec.policy_name.unwrap_or_default(),
        }
    }
}

/// Every policy that is bound, brought up to date when asked for.
pub(super) struct Index {
    policies: Box<dyn Follow>,
    bindings: Box<dyn Follow>,
    kinds: Kinds,
    policy_by_name: BTreeMap<Arc<str>, Arc<Policy>>,
    binding_by_name: BTreeMap<Arc<str>, Arc<Binding>>,
    bound: Arc<[Bound]>,
}

impl Index {
    pub(super) fn new(lookup: &dyn Lookup) -> Index {
        let follow = |plural: &str| lookup.follow(&format!("{GROUP}/{plural}"));
        Index {
            policies: follow("validatingadmissionpolicies"),
            bindings: follow("validatingadmissionpolicybindings"),
            kinds: Kinds::new(lookup),
            policy_by_name: BTreeMap::new(),
            binding_by_name: BTreeMap::new(),
            bound: Arc::new([]),
        }
    }

    pub(super) fn bound(&mut self) -> Arc<[Bound]> {
        let policies = take(&mut *self.policies, &mut self.policy_by_name, |change| {
            read(change).map(Policy::new)
        });
        let bindings = take(&mut *self.bindings, &mut self.binding_by_name, |change| {
            read(change).map(Binding::new)
        });
        if policies | bindings | self.kinds.catch_up() {
            let all = self.policy_by_name.values().map(|policy| Bound {
                policy: policy.clone(),
                params: policy.params.as_ref().map(|kind| self.kinds.place(kind)),
                bindings: self
                    .binding_by_name
                    .values()
                    .filter(|binding| binding.policy == policy.name)
                    .cloned()
                    .collect(),
            });
            self.bound = all.filter(|bound| !bound.bindings.is_empty()).collect();
        }
        self.bound.clone()
    }
}

/// Takes in what changed, and says whether anything did.
pub(super) fn take<T>(
    follow: &mut dyn Follow,
    known: &mut BTreeMap<Arc<str>, Arc<T>>,
    make: impl Fn(&Change) -> Option<T>,
) -> bool {
    let changes = match follow.changes() {
        Changes::Since(changes) if changes.is_empty() => return false,
        Changes::Since(changes) => changes,
        Changes::All(all) => {
            known.clear();
            all
        }
    };
    for change in changes {
        match make(&change) {
            Some(made) => known.insert(change.name.clone(), Arc::new(made)),
            None => known.remove(&change.name),
        };
    }
    true
}

/// What does not parse is as good as gone; validation keeps such out of the store.
pub(super) fn read<T: DeserializeOwned>(change: &Change) -> Option<T> {
    let bytes = change.object.as_ref()?;
    serde_json::from_slice(bytes)
        .inspect_err(
            |error| tracing::error!(name = %change.name, %error, "ignoring a broken policy"),
        )
        .ok()
}
