//! Role-based access control: what the roles and bindings of the cluster allow.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};

use super::attributes::{Attributes, Target};
use super::user::{MASTERS, User};
use crate::lookup::{Follow, Lookup};
use crate::status::{ApiError, Reason};
use index::{Index, Kind};

pub(crate) mod aggregation;
pub(crate) mod bootstrap;
mod escalation;
mod index;
mod matching;

pub use escalation::NoEscalation;

/// Whether a request may go on, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// The rule that allows it; empty where none does.
    pub reason: String,
}

impl Decision {
    fn allowed(reason: impl Into<String>) -> Self {
        Decision {
            allowed: true,
            reason: reason.into(),
        }
    }

    fn denied() -> Self {
        Decision {
            allowed: false,
            reason: String::new(),
        }
    }
}

/// Decides what users may do.
///
/// Every decision first takes in what changed of the roles and bindings, so it sees each
/// write that was acknowledged before it.
pub struct Authorizer {
    policy: Mutex<Policy>,
}

struct Policy {
    follows: Vec<(Kind, Box<dyn Follow>)>,
    index: Index,
}

impl Authorizer {
    /// Reads roles and bindings from here.
    pub fn new(lookup: &dyn Lookup) -> Self {
        let follows = Kind::ALL
            .map(|kind| (kind, lookup.follow(kind.key())))
            .into();
        Authorizer {
            policy: Mutex::new(Policy {
                follows,
                index: Index::default(),
            }),
        }
    }

    /// Whether a user may do this.
    pub fn decide(&self, user: &User, request: &Attributes) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::allowed("");
        }
        let namespace = match &request.target {
            Target::Resource { namespace, .. } => namespace.as_str(),
            Target::Path(_) => "",
        };
        let mut decision = Decision::denied();
        self.policy().index.grants(user, namespace, |grant| {
            if grant
                .rules
                .iter()
                .any(|rule| matching::allows(rule, request))
            {
                decision = Decision::allowed(grant.reason());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        decision
    }

    /// Refuses what a user may not do, in Kubernetes' words.
    pub fn check(&self, user: &User, request: &Attributes) -> Result<(), ApiError> {
        let decision = self.decide(user, request);
        if decision.allowed {
            return Ok(());
        }
        let why = format!("User {:?} cannot {request}", user.name);
        Err(match &request.target {
            Target::Resource {
                group,
                resource,
                name,
                ..
            } => ApiError::forbidden(group, resource, name, &why),
            Target::Path(_) => ApiError::new(403, Reason::Forbidden, format!("forbidden: {why}")),
        })
    }

    /// Every rule that applies to a user in a namespace.
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        if user.is_in(MASTERS) {
            rules.extend(everything());
        }
        self.policy().index.grants(user, namespace, |grant| {
            rules.extend_from_slice(grant.rules);
            ControlFlow::Continue(())
        });
        rules
    }

    /// The rules of the role that a binding in a namespace refers to.
    pub(crate) fn rules_of(&self, namespace: &str, role: &RoleRef) -> Option<Vec<PolicyRule>> {
        self.policy()
            .index
            .rules_of(namespace, role)
            .map(<[PolicyRule]>::to_vec)
    }

    fn policy(&self) -> MutexGuard<'_, Policy> {
        // A panic cannot leave the index half changed in a way that matters: the next change
        // of the same object replaces what is there.
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let Policy { follows, index } = &mut *policy;
        for (kind, follow) in follows {
            index.take(*kind, follow.changes());
        }
        policy
    }
}

/// What members of `system:masters` may do, as rules.
fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule {
            api_groups: Some(all()),
            resources: Some(all()),
            verbs: all(),
            ..PolicyRule::default()
        },
        PolicyRule {
            non_resource_urls: Some(all()),
            verbs: all(),
            ..PolicyRule::default()
        },
    ]
}
