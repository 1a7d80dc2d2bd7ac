//! Which writes a webhook or a policy is about.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, RuleWithOperations,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Wanted;
use sandlot_objects::selector::LabelSelector;

use super::{AdmissionRequest, Resource};
use crate::lookup::Lookup;

/// Which writes a webhook or a policy is about.
pub(super) struct Matching {
    /// `None` is about everything, as in a binding that does not say.
    rules: Option<Vec<Rule>>,
    excluded: Vec<Rule>,
    /// Whether a rule for one version also means the others of the same resource.
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

struct Rule {
    names: Vec<String>,
    of: RuleWithOperations,
}

impl Matching {
    /// What a webhook says.
    pub(super) fn of_webhook(
        rules: Option<Vec<RuleWithOperations>>,
        policy: Option<&str>,
        namespaces: Option<Wanted>,
        objects: Option<Wanted>,
    ) -> Matching {
        let rule = |of| Rule {
            names: Vec::new(),
            of,
        };
        Matching {
            rules: Some(rules.unwrap_or_default().into_iter().map(rule).collect()),
            excluded: Vec::new(),
            equivalent: policy != Some("Exact"),
            namespaces: selector(namespaces),
            objects: selector(objects),
        }
    }

    /// What a policy says; without constraints it is about nothing.
    pub(super) fn of_resources(of: Option<MatchResources>) -> Matching {
        let mut matching = Matching::of_binding(of);
        matching.rules.get_or_insert_default();
        matching
    }

    /// What a binding says; without constraints it is about everything.
    pub(super) fn of_binding(of: Option<MatchResources>) -> Matching {
        let of = of.unwrap_or_default();
        let rules =
            |rules: Vec<NamedRuleWithOperations>| rules.into_iter().map(Rule::from).collect();
        Matching {
            rules: of.resource_rules.filter(|all| !all.is_empty()).map(rules),
            excluded: of.exclude_resource_rules.map(rules).unwrap_or_default(),
            equivalent: of.match_policy.as_deref() != Some("Exact"),
            namespaces: selector(of.namespace_selector),
            objects: selector(of.object_selector),
        }
    }

    /// Whether a write is chosen.
    pub(super) fn chooses(&self, request: &AdmissionRequest, lookup: &dyn Lookup) -> bool {
        self.version(request, lookup).is_some()
    }

    /// The version in which a write is chosen, if it is.
    ///
    /// That is the version of the request or, where equivalent ones are taken, another in
    /// which the same objects are served.
    pub(super) fn version<'a>(
        &self,
        request: &'a AdmissionRequest,
        lookup: &dyn Lookup,
    ) -> Option<&'a str> {
        let others = request.resource.versions.iter().map(String::as_str);
        let mut versions = std::iter::once(request.resource.version.as_str())
            .chain(others.filter(|_| self.equivalent));
        if versions
            .clone()
            .any(|version| about(&self.excluded, request, version))
        {
            return None;
        }
        let version = match &self.rules {
            None => versions.next(),
            Some(rules) => versions.find(|version| about(rules, request, version)),
        };
        version.filter(|_| self.selects(request, lookup))
    }

    /// Whether the selectors choose the write's namespace and object. Objects outside
    /// namespaces have no namespace that could fail to be chosen.
    fn selects(&self, request: &AdmissionRequest, lookup: &dyn Lookup) -> bool {
        let chosen = if request.is_about("", "namespaces") {
            either(&self.namespaces, request)
        } else if request.namespace.is_empty() || self.namespaces.is_everything() {
            true
        } else {
            let namespace = lookup.get("namespaces", "", &request.namespace);
            namespace.is_none_or(|found| self.namespaces.matches(&found))
        };
        chosen && either(&self.objects, request)
    }
}

impl From<NamedRuleWithOperations> for Rule {
    fn from(rule: NamedRuleWithOperations) -> Rule {
        Rule {
            names: rule.resource_names.unwrap_or_default(),
            of: RuleWithOperations {
                api_groups: rule.api_groups,
                api_versions: rule.api_versions,
                operations: rule.operations,
                resources: rule.resources,
                scope: rule.scope,
            },
        }
    }
}

/// A selector that cannot be read selects nothing; validation keeps such out of the store.
fn selector(wanted: Option<Wanted>) -> LabelSelector {
    let Some(wanted) = wanted else {
        return LabelSelector::everything();
    };
    let value = serde_json::to_value(wanted).ok();
    LabelSelector::from_object(value.as_ref()).unwrap_or_else(|_| LabelSelector::nothing())
}

/// Whether one of the rules is about a write in a version.
fn about(rules: &[Rule], request: &AdmissionRequest, version: &str) -> bool {
    let resource = &request.resource;
    let operation = request.operation.to_string();
    rules.iter().any(|Rule { names, of }| {
        has(of.operations.as_deref(), &operation)
            && has(of.api_groups.as_deref(), &resource.group)
            && has(of.api_versions.as_deref(), version)
            && is_of_scope(of, resource)
            && of
                .resources
                .iter()
                .flatten()
                .any(|of| is_resource(of, resource))
            && (names.is_empty() || names.contains(&request.name))
    })
}

fn has(values: Option<&[String]>, wanted: &str) -> bool {
    let values = values.unwrap_or_default();
    values.iter().any(|value| value == "*" || value == wanted)
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
