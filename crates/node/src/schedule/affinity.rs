//! Where a pod wants to be, and beside whom.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm};
use kube::core::{Selector, SelectorExt as _};

use super::seat::Seat;

/// A pod that is here already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Whether the node is one that the pod asks for.
pub(super) fn wants(pod: &Pod, seat: &Seat) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selector = spec.node_selector.iter().flatten();
    let selected = selector
        .into_iter()
        .all(|(key, value)| seat.labels.get(key) == Some(value));
    let required = spec.affinity.as_ref().and_then(|affinity| {
        affinity
            .node_affinity
            .as_ref()?
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let affine = required.is_none_or(|required| {
        let terms = &required.node_selector_terms;
        terms.iter().any(|term| term_holds(term, seat))
    });
    selected && affine
}

/// All requirements of a term hold; one without any is about no node.
fn term_holds(term: &NodeSelectorTerm, seat: &Seat) -> bool {
    let labels = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let some = labels.clone().next().is_some() || fields.clone().next().is_some();
    some && labels
        .into_iter()
        .all(|one| holds(one, seat.labels.get(&one.key)))
        && fields
            .into_iter()
            .all(|one| one.key == "metadata.name" && holds(one, Some(&seat.name)))
}

fn holds(one: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = one.values.as_deref().unwrap_or_default();
    let number = |text: &String| text.parse::<i64>().ok();
    let compared = |holds: fn(&i64, &i64) -> bool| {
        let (own, asked) = (value.and_then(number), values.first().and_then(number));
        matches!((own, asked), (Some(own), Some(asked)) if holds(&own, &asked))
    };
    match one.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

/// Why the pods that are here keep this one away, if they do.
pub(super) fn keeps_away(pod: &Pod, here: &[Neighbour], seat: &Seat) -> Option<&'static str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
    let own = Neighbour {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
    };
    let near = affinity.pod_affinity.iter().flat_map(|wanted| {
        let required = &wanted.required_during_scheduling_ignored_during_execution;
        required.iter().flatten()
    });
    for term in near {
        // The first of a group that wants to be together may begin anywhere.
        let met = here
            .iter()
            .chain([&own])
            .any(|one| is_meant(term, one, &own.namespace));
        if !met || !seat.labels.contains_key(&term.topology_key) {
            return Some("node(s) didn't match pod affinity rules");
        }
    }
    let apart = affinity.pod_anti_affinity.iter().flat_map(|wanted| {
        let required = &wanted.required_during_scheduling_ignored_during_execution;
        required.iter().flatten()
    });
    for term in apart {
        let met = here.iter().any(|one| is_meant(term, one, &own.namespace));
        if met && seat.labels.contains_key(&term.topology_key) {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
    }
    None
}

fn is_meant(term: &PodAffinityTerm, one: &Neighbour, own: &str) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    // A selector of namespaces is taken to mean all of them: it can only keep more apart.
    let there = match (&term.namespace_selector, named) {
        (Some(_), _) => true,
        (None, []) => one.namespace == own,
        (None, named) => named.contains(&one.namespace),
    };
    let selector = term.label_selector.clone().unwrap_or_default();
    there && Selector::try_from(selector).is_ok_and(|selector| selector.matches(&one.labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(affinity: Value) -> Pod {
        let spec = json!({"containers": [], "affinity": affinity});
        serde_json::from_value(json!({"metadata": {"namespace": "a"}, "spec": spec})).unwrap()
    }

    fn seat() -> Seat {
        Seat {
            name: "n".into(),
            labels: [
                ("zone", "x"),
                ("cores", "8"),
                ("kubernetes.io/hostname", "n"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            ..Seat::default()
        }
    }

    #[test]
    fn terms_are_alternatives_and_their_requirements_hold_together() {
        let node = |terms: Value| {
            pod(json!({"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}))
        };
        let x = json!({"key": "zone", "operator": "In", "values": ["x"]});
        let few = json!({"key": "cores", "operator": "Lt", "values": ["8"]});
        let many = json!({"key": "cores", "operator": "Gt", "values": ["7"]});
        for (terms, comes) in [
            (json!([{"matchExpressions": [x, many]}]), true),
            (json!([{"matchExpressions": [x, few]}]), false),
            (
                json!([{"matchExpressions": [few]}, {"matchExpressions": [x]}]),
                true,
            ),
            (json!([{}]), false),
            (
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]),
                true,
            ),
            (
                json!([{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]),
                true,
            ),
        ] {
            assert_eq!(wants(&node(terms.clone()), &seat()), comes, "{terms}");
        }
    }

    #[test]
    fn pods_that_want_to_be_apart_are() {
        let term = json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let apart = pod(json!({"podAntiAffinity": {required: term}}));
        let near = pod(json!({"podAffinity": {required: term}}));
        let db = Neighbour {
            namespace: "a".into(),
            labels: [("app".to_owned(), "db".to_owned())].into(),
        };
        let elsewhere = Neighbour {
            namespace: "b".into(),
            ..db.clone()
        };
        assert!(keeps_away(&apart, std::slice::from_ref(&db), &seat()).is_some());
        assert_eq!(
            keeps_away(&apart, std::slice::from_ref(&elsewhere), &seat()),
            None
        );
        assert!(keeps_away(&near, &[elsewhere], &seat()).is_some());
        assert_eq!(keeps_away(&near, &[db], &seat()), None);
    }
}
