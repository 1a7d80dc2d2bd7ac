use proptest::prelude::*;
use serde_json::{Value, json};

use crate::apply::{FieldSet, PathElement, decode_fields, encode_fields};

#[test]
fn sets_read_as_kubernetes_writes_them() {
    let text = json!({
        "f:metadata": {"f:finalizers": {".": {}, "v:\"a\"": {}}},
        "f:spec": {"f:ports": {"k:{\"protocol\":\"TCP\",\"port\":80}": {"f:name": {}}, "i:3": {}}},
    });
    let set = decode_fields(&text).unwrap();
    assert_eq!(
        set.paths(),
        [
            ".metadata.finalizers",
            ".metadata.finalizers[=\"a\"]",
            ".spec.ports[port=80,protocol=\"TCP\"].name",
            ".spec.ports[3]",
        ]
    );
}

#[test]
fn what_is_not_a_set_is_refused() {
    for text in [
        json!([]),
        json!("f:a"),
        json!({"f:a": 1}),
        json!({"f:a": {"x": {}}}),
        json!({"x:a": {}}),
        json!({"k:a": {}}),
        json!({"v:": {}}),
        json!({"i:-1": {}}),
        (0..200).fold(json!({}), |inner, _| json!({ "f:a": inner })),
    ] {
        assert_eq!(decode_fields(&text), None, "{text}");
    }
}

fn steps() -> impl Strategy<Value = PathElement> {
    prop_oneof![
        "[a-c.:\"]{0,3}".prop_map(|name| PathElement::field(&name)),
        any::<i8>().prop_map(|value| PathElement::value(&value.into())),
        "[a-c\"]{0,2}".prop_map(|value| PathElement::value(&value.into())),
        (0..3usize).prop_map(PathElement::Index),
        ("[a-c\"]{0,2}", any::<bool>()).prop_map(|(name, value)| {
            let (name_value, flag): (Value, Value) = (name.into(), value.into());
            PathElement::key(&[("name", &name_value), ("flag", &flag)].into())
        }),
    ]
}

fn paths() -> impl Strategy<Value = Vec<Vec<PathElement>>> {
    prop::collection::vec(prop::collection::vec(steps(), 1..4), 0..12)
}

fn set_of(paths: &[Vec<PathElement>]) -> FieldSet {
    let mut set = FieldSet::default();
    for path in paths {
        set.insert(path);
    }
    set
}

proptest! {
    #[test]
    fn sets_survive_being_written_and_read(paths in paths()) {
        let set = set_of(&paths);
        prop_assert_eq!(decode_fields(&encode_fields(&set)), Some(set));
    }

    #[test]
    fn sets_behave_as_sets(left in paths(), right in paths()) {
        let (a, b) = (set_of(&left), set_of(&right));
        let mut union = a.clone();
        union.extend(&b);
        let common = a.intersection(&b);
        let mut only_a = a.clone();
        only_a.subtract(&b);
        for path in left.iter().chain(&right) {
            prop_assert!(union.contains(path));
            prop_assert_eq!(common.contains(path), a.contains(path) && b.contains(path));
            prop_assert_eq!(only_a.contains(path), a.contains(path) && !b.contains(path));
        }
        only_a.extend(&common);
        prop_assert_eq!(only_a, a);
    }

    #[test]
    fn reading_never_crashes(text in "[fkvi.:{}\"a0]{0,12}") {
        let _ = decode_fields(&json!({text: {}}));
    }
}
