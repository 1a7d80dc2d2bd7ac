use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Bounds, NameRule, generated_name, validate, validate_update};

const BOUNDS: Bounds = Bounds {
    name: NameRule::Subdomain,
    namespaced: true,
    builtin: false,
};

fn faults(metadata: Value) -> Vec<String> {
    let mut object = json!({"metadata": {"name": "a", "namespace": "x"}});
    json_patch::merge(&mut object["metadata"], &metadata);
    validate(&object, BOUNDS)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn assert_fault(metadata: Value, expected: &str) {
    let faults = faults(metadata);
    assert!(
        faults.len() == 1 && faults[0].starts_with(expected),
        "expected {expected}, got {faults:#?}"
    );
}

#[test]
fn each_kind_has_its_names() {
    let cases = [
        (NameRule::Subdomain, "a.b-c.1", true),
        (NameRule::Subdomain, "A", false),
        (NameRule::Subdomain, "a..b", false),
        (NameRule::Subdomain, "-a", false),
        (NameRule::Subdomain, "", false),
        (NameRule::Label, "a-1", true),
        (NameRule::Label, "a.b", false),
        (NameRule::ServiceLabel, "a1", true),
        (NameRule::ServiceLabel, "1a", false),
        (NameRule::PathSegment, "system:node:A b", true),
        (NameRule::PathSegment, "a/b", false),
        (NameRule::PathSegment, "..", false),
        (NameRule::PathSegment, "a%", false),
    ];
    for (rule, name, fine) in cases {
        assert_eq!(rule.faults(name).is_empty(), fine, "{rule:?} {name:?}");
    }
    assert!(NameRule::Subdomain.faults(&"a".repeat(253)).is_empty());
    assert!(!NameRule::Subdomain.faults(&"a".repeat(254)).is_empty());
    assert!(!NameRule::Label.faults(&"a".repeat(64)).is_empty());
}

#[test]
fn a_prefix_may_end_in_a_dash() {
    assert!(NameRule::Label.prefix_faults("web-").is_empty());
    assert!(!NameRule::Label.prefix_faults("web.").is_empty());
    assert!(!NameRule::Label.prefix_faults("-").is_empty());
}

#[test]
fn good_metadata_passes() {
    let metadata = json!({
        "labels": {"app.kubernetes.io/name": "x", "empty": ""},
        "annotations": {"Example.com/Any": "thing goes\n"},
        "finalizers": ["example.com/f", "orphan"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}],
    });
    assert_eq!(faults(metadata), Vec::<String>::new());
}

#[test]
fn wrong_metadata_is_refused_in_the_words_of_kubernetes() {
    assert_fault(
        json!({"name": null}),
        "metadata.name: Required value: name or generateName is required",
    );
    assert_fault(
        json!({"name": "A"}),
        "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower \
         case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric \
         character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    );
    assert_fault(
        json!({"namespace": null}),
        "metadata.namespace: Required value",
    );
    assert_fault(
        json!({"labels": {"a b": "c"}}),
        "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric",
    );
    assert_fault(
        json!({"labels": {"a": "b c"}}),
        "metadata.labels: Invalid value: \"b c\": a valid label must be an empty string",
    );
    assert_fault(
        json!({"labels": {"a/b/c": "d"}}),
        "metadata.labels: Invalid value: \"a/b/c\": a qualified name must consist",
    );
    assert_fault(
        json!({"labels": {"a": "b".repeat(64)}}),
        &format!(
            "metadata.labels: Invalid value: \"{}\": must be no more than 63",
            "b".repeat(64)
        ),
    );
    assert_fault(
        json!({"annotations": {"a": "x".repeat(256 * 1024)}}),
        "metadata.annotations: Too long: may not be more than 262144 bytes",
    );
    assert_fault(
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
        "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
    );
    assert_fault(
        json!({"ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true},
            {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "v", "controller": true},
        ]}),
        "metadata.ownerReferences: Invalid value: [",
    );
    assert_fault(
        json!({"finalizers": ["a b"]}),
        "metadata.finalizers: Invalid value: \"a b\": name part must consist",
    );
    assert_fault(
        json!({"finalizers": ["orphan", "foregroundDeletion"]}),
        "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer",
    );
}

#[test]
fn a_cluster_scoped_object_has_no_namespace_and_built_in_kinds_know_their_finalizers() {
    let object = json!({"metadata": {"name": "a", "namespace": "x", "finalizers": ["mine"]}});
    let bounds = Bounds {
        namespaced: false,
        builtin: true,
        ..BOUNDS
    };
    let causes: Vec<String> = validate(&object, bounds)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        causes,
        [
            "metadata.namespace: Forbidden: not allowed on this type",
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer \
             name nor is it fully qualified",
        ]
    );
}

#[test]
fn what_identifies_an_object_cannot_change() {
    let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 3}});
    assert!(validate_update(&old, &old).is_empty());
    let new = json!({"metadata": {"name": "b", "uid": "v", "generation": 2}});
    let causes: Vec<String> = validate_update(&old, &new)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        causes,
        [
            "metadata.name: Invalid value: \"b\": field is immutable",
            "metadata.uid: Invalid value: \"v\": field is immutable",
            "metadata.generation: Invalid value: 2: must not be decremented",
        ]
    );
}

#[test]
fn an_object_that_is_going_gets_no_new_finalizer() {
    let old = json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["a/b"]}});
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
    let causes = validate_update(&old, &new);
    assert_eq!(
        causes[0].to_string(),
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
         deleted, found new finalizers []string{\"c/d\"}"
    );
    new["metadata"]["finalizers"] = json!([]);
    assert!(validate_update(&old, &new).is_empty());
}

proptest! {
    #[test]
    fn generated_names_are_names(prefix in "[a-z][a-z0-9-]{0,80}", random in any::<u64>()) {
        let name = generated_name(&prefix, random);
        prop_assert!(NameRule::Label.faults(&name).is_empty(), "{}", name);
        prop_assert!(name.starts_with(&prefix[..prefix.len().min(58)]));
    }
}
