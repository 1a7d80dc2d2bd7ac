//! Whether a rule allows a request, and whether rules cover a rule.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::access::attributes::{Attributes, Target};

const ALL: &str = "*";

/// Whether one rule allows a request.
pub(crate) fn allows(rule: &PolicyRule, request: &Attributes) -> bool {
    if !has(&rule.verbs, &request.verb) {
        return false;
    }
    match &request.target {
        Target::Path(path) => list(&rule.non_resource_urls)
            .iter()
            .any(|url| covers_path(url, path)),
        Target::Resource {
            group,
            resource,
            subresource,
            name,
            ..
        } => {
            has(list(&rule.api_groups), group)
                && list(&rule.resources)
                    .iter()
                    .any(|of| is_resource(of, resource, subresource))
                && is_named(list(&rule.resource_names), name)
        }
    }
}

/// Whether the rules that somebody holds together allow everything that one rule allows.
///
/// The rule is taken apart into single verbs, groups, resources and names, and each
/// combination must be covered by one of the rules held.
pub(crate) fn cover(held: &[PolicyRule], wanted: &PolicyRule) -> bool {
    wanted.verbs.iter().all(|verb| {
        let paths = list(&wanted.non_resource_urls);
        let held: Vec<&PolicyRule> = held.iter().filter(|rule| has(&rule.verbs, verb)).collect();
        paths.iter().all(|path| {
            held.iter().any(|rule| {
                list(&rule.non_resource_urls)
                    .iter()
                    .any(|url| covers_path(url, path))
            })
        }) && resources_covered(&held, wanted)
    })
}

fn resources_covered(held: &[&PolicyRule], wanted: &PolicyRule) -> bool {
    let names: Vec<Option<&String>> = match list(&wanted.resource_names) {
        [] => vec![None],
        names => names.iter().map(Some).collect(),
    };
    list(&wanted.api_groups).iter().all(|group| {
        list(&wanted.resources).iter().all(|resource| {
            names.iter().all(|name| {
                held.iter().any(|rule| {
                    has(list(&rule.api_groups), group)
                        && list(&rule.resources)
                            .iter()
                            .any(|of| covers_resource(of, resource))
                        && covers_name(list(&rule.resource_names), *name)
                })
            })
        })
    })
}

fn list(values: &Option<Vec<String>>) -> &[String] {
    values.as_deref().unwrap_or_default()
}

fn has(values: &[String], wanted: &str) -> bool {
    values.iter().any(|value| value == ALL || value == wanted)
}

/// `pods`, `pods/log`, `*/scale` and `*` are what a rule may name.
fn is_resource(of: &str, resource: &str, subresource: &str) -> bool {
    match of.split_once('/') {
        _ if of == ALL => true,
        None => subresource.is_empty() && of == resource,
        Some((_, "")) => false,
        Some((whose, sub)) => sub == subresource && (whose == ALL || whose == resource),
    }
}

fn covers_resource(of: &str, wanted: &str) -> bool {
    match (of.split_once('/'), wanted.split_once('/')) {
        _ if of == ALL || of == wanted => true,
        (Some((ALL, sub)), Some((_, wanted))) => sub == wanted,
        _ => false,
    }
}

/// A rule that names objects allows nothing on requests that name none.
fn is_named(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|own| own == name)
}

fn covers_name(names: &[String], wanted: Option<&String>) -> bool {
    names.is_empty() || wanted.is_some_and(|wanted| names.contains(wanted))
}

fn covers_path(url: &str, path: &str) -> bool {
    match url.strip_suffix(ALL) {
        Some(prefix) => path.starts_with(prefix),
        None => url == path,
    }
}
