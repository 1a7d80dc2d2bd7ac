use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{PatchError, json, merge, strategic};
use crate::{
    schema::{Schema, Strategy as Merging, Type, Types},
    shape::Shape,
};

/// A pod's spec as far as merging is concerned.
fn pod() -> Schema {
    let port = object([]);
    let container = object([
        ("ports", keyed("containerPort", port)),
        ("env", keyed("name", object([]))),
        (
            "args",
            Schema {
                kind: Type::Array,
                ..Schema::default()
            },
        ),
    ]);
    let volumes = keyed("name", object([]));
    let spec = object([
        ("containers", keyed("name", container)),
        ("volumes", volumes),
        (
            "tolerations",
            Schema {
                kind: Type::Array,
                ..Schema::default()
            },
        ),
    ]);
    let finalizers = Schema {
        kind: Type::Array,
        strategy: Merging {
            merge: true,
            ..Merging::default()
        },
        ..Schema::default()
    };
    let metadata = object([("finalizers", finalizers)]);
    object([("metadata", metadata), ("spec", spec)])
}

fn object<const N: usize>(fields: [(&str, Schema); N]) -> Schema {
    Schema {
        kind: Type::Object,
        properties: fields
            .into_iter()
            .map(|(name, schema)| (name.to_owned(), Arc::new(schema)))
            .collect(),
        ..Schema::default()
    }
}

fn keyed(key: &str, items: Schema) -> Schema {
    Schema {
        kind: Type::Array,
        items: Some(Arc::new(items)),
        strategy: Merging {
            merge_key: Some(key.into()),
            merge: true,
            retain_keys: false,
        },
        ..Schema::default()
    }
}

fn strategic(original: Value, patch: Value) -> Result<Value, PatchError> {
    strategic::apply(Shape::object(&pod(), &Types::new()), &original, &patch)
}

#[track_caller]
fn assert_strategic(original: Value, patch: Value, expected: Value) {
    assert_eq!(strategic(original, patch).unwrap(), expected);
}

#[test]
fn a_container_is_found_by_its_name() {
    assert_strategic(
        json!({"spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]}}),
        json!({"spec": {"containers": [{"name": "b", "image": "b:2"}]}}),
        json!({"spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]}}),
    );
}

#[test]
fn a_new_container_stands_before_those_that_the_patch_does_not_name() {
    assert_strategic(
        json!({"spec": {"containers": [{"name": "a"}]}}),
        json!({"spec": {"containers": [{"name": "b"}]}}),
        json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}}),
    );
}

#[test]
fn an_item_marked_delete_leaves_its_list() {
    assert_strategic(
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
        json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
        json!({"spec": {"containers": [{"name": "b"}]}}),
    );
}

#[test]
fn a_list_marked_replace_is_replaced() {
    assert_strategic(
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
        json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}}),
        json!({"spec": {"containers": [{"name": "c"}]}}),
    );
}

#[test]
fn an_object_marked_replace_or_delete_is_replaced_or_emptied() {
    let original = json!({"spec": {"hostNetwork": true, "nodeName": "n"}});
    assert_strategic(
        original.clone(),
        json!({"spec": {"$patch": "replace", "nodeName": "m", "x": null}}),
        json!({"spec": {"nodeName": "m"}}),
    );
    assert_strategic(
        original,
        json!({"spec": {"$patch": "delete"}}),
        json!({"spec": {}}),
    );
}

#[test]
fn the_given_order_holds_and_unknown_items_keep_their_places() {
    assert_strategic(
        json!({"spec": {"containers": [{"name": "a"}, {"name": "mesh"}, {"name": "b"}]}}),
        json!({"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
            "containers": [{"name": "c", "image": "c"}],
        }}),
        json!({"spec": {"containers": [
            {"name": "mesh"}, {"name": "b"}, {"name": "c", "image": "c"}, {"name": "a"},
        ]}}),
    );
}

#[test]
fn an_order_that_does_not_name_what_the_patch_changes_is_refused() {
    let error = strategic(
        json!({"spec": {"containers": []}}),
        json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}}),
    )
    .unwrap_err();
    assert_eq!(error.status(), 422);
    assert!(
        error
            .to_string()
            .contains("doesn't match $setElementOrder list"),
        "{error}"
    );
}

#[test]
fn finalizers_merge_as_a_set_and_can_be_deleted_by_value() {
    let original = json!({"metadata": {"finalizers": ["a", "b"]}});
    assert_strategic(
        original.clone(),
        json!({"metadata": {"finalizers": ["b", "c"]}}),
        json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
    );
    assert_strategic(
        original,
        json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"],
        }}),
        json!({"metadata": {"finalizers": ["c", "b"]}}),
    );
}

#[test]
fn retained_keys_clear_the_other_members_of_a_union() {
    assert_strategic(
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
    );
    let error = strategic(
        json!({"spec": {"nodeName": "n"}}),
        json!({"spec": {"$retainKeys": ["nodeName"], "hostname": "h"}}),
    )
    .unwrap_err();
    assert_eq!(
        error,
        PatchError::Malformed("invalid patch format of retainKeys".into())
    );
}

#[test]
fn lists_without_a_merge_key_are_replaced() {
    assert_strategic(
        json!({"spec": {"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["x"]}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["y"]}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["y"]}]}}),
    );
}

#[test]
fn null_deletes_and_leaves_no_trace_where_there_was_nothing() {
    assert_strategic(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
        json!({"metadata": {"labels": {"a": null}, "annotations": {"c": null, "d": "4"}}, "spec": null}),
        json!({"metadata": {"labels": {"b": "2"}, "annotations": {"d": "4"}}}),
    );
}

#[test]
fn directives_never_end_up_in_the_object() {
    assert_strategic(
        json!({}),
        json!({"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "$retainKeys": ["containers"],
            "containers": [{"name": "a", "$setElementOrder/ports": [{"containerPort": 1}],
                            "ports": [{"containerPort": 1}, {"containerPort": 2, "$patch": "delete"}]}],
        }}),
        json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1}]}]}}),
    );
}

#[test]
fn an_item_without_its_merge_key_is_refused() {
    let error = strategic(
        json!({"spec": {"containers": [{"name": "a"}]}}),
        json!({"spec": {"containers": [{"image": "b"}]}}),
    )
    .unwrap_err();
    assert_eq!(error.status(), 422);
    assert!(
        error
            .to_string()
            .contains("does not contain declared merge key: name"),
        "{error}"
    );
}

#[test]
fn an_unknown_directive_is_refused() {
    let error = strategic(json!({"spec": {}}), json!({"spec": {"$patch": "burn"}})).unwrap_err();
    assert!(
        error.to_string().contains("unknown patch type: \"burn\""),
        "{error}"
    );
}

#[test]
fn json_operations_apply_in_order() {
    let patched = json::apply(
        &json!({"spec": {"a": 1, "list": [1, 2]}}),
        &json!([
            {"op": "test", "path": "/spec/a", "value": 1},
            {"op": "replace", "path": "/spec/a", "value": 2},
            {"op": "add", "path": "/spec/list/-", "value": 3},
            {"op": "remove", "path": "/spec/list/0"},
            {"op": "copy", "from": "/spec/a", "path": "/spec/b"},
            {"op": "move", "from": "/spec/b", "path": "/spec/c~1d"},
        ]),
    );
    assert_eq!(
        patched.unwrap(),
        json!({"spec": {"a": 2, "list": [2, 3], "c/d": 2}})
    );
}

#[test]
fn json_patches_fail_in_the_words_of_kubernetes() {
    let refused = "the server rejected our request due to an error in our request: ";
    let cases = [
        (json!({"op": "add"}), 422, ""),
        (
            json!([{"op": "burn", "path": "/a"}]),
            400,
            "unknown variant",
        ),
        (
            json!([{"op": "test", "path": "/a", "value": 2}]),
            422,
            "testing value /a failed: test failed",
        ),
        (
            json!([{"op": "add", "path": "/x/y", "value": 2}]),
            422,
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!([{"op": "replace", "path": "/x", "value": 2}]),
            422,
            "replace operation does not apply: doc is missing key: /x: missing value",
        ),
        (
            json!([{"op": "remove", "path": "/x"}]),
            422,
            "remove operation does not apply",
        ),
        (
            json!([{"op": "move", "from": "/x", "path": "/y"}]),
            422,
            "move operation does not apply: doc is missing from path: /x: missing value",
        ),
    ];
    for (patch, status, text) in cases {
        let error = json::apply(&json!({"a": 1}), &patch).unwrap_err();
        if patch.is_object() {
            assert_eq!(error.status(), 400, "a patch must be a list");
            continue;
        }
        assert_eq!(error.status(), status, "{patch}");
        assert!(error.to_string().contains(text), "{error}");
        if status == 422 {
            assert!(error.to_string().starts_with(refused), "{error}");
        }
    }
}

#[test]
fn a_json_patch_may_test_that_a_field_is_absent() {
    let absent = json!([{"op": "test", "path": "/b", "value": null}]);
    assert!(json::apply(&json!({"a": 1}), &absent).is_ok());
    assert!(json::apply(&json!({"b": 1}), &absent).is_err());
}

#[test]
fn copies_cannot_blow_up_an_object() {
    let mut patch = vec![json!({"op": "add", "path": "/a", "value": "x".repeat(1024)})];
    for step in 0..60 {
        patch.push(json!({"op": "copy", "from": "", "path": format!("/c{step}")}));
    }
    let error = json::apply(&json!({}), &Value::Array(patch)).unwrap_err();
    assert_eq!(error.status(), 413);
    assert!(
        error
            .to_string()
            .contains("accumulated size increase of copy"),
        "{error}"
    );
}

#[test]
fn moves_cannot_bury_a_value_deeper_than_the_stack() {
    let mut patch = Vec::new();
    for _ in 0..2_000 {
        patch.push(json!({"op": "move", "from": "/a", "path": "/b"}));
        patch.push(json!({"op": "add", "path": "/a", "value": {}}));
        patch.push(json!({"op": "move", "from": "/b", "path": "/a/b"}));
    }
    let error = json::apply(&json!({"a": {}}), &Value::Array(patch)).unwrap_err();
    assert_eq!(error.status(), 413);
}

#[test]
fn too_many_operations_are_refused() {
    let patch = Value::Array(vec![json!({"op": "remove", "path": "/a"}); 10_001]);
    let error = json::apply(&json!({"a": 1}), &patch).unwrap_err();
    assert_eq!(
        error,
        PatchError::TooLarge(
            "The allowed maximum operations in a JSON patch is 10000, got 10001".into()
        )
    );
}

#[test]
fn ten_thousand_inserts_into_a_long_list_are_refused_not_suffered() {
    let list = json!({"a": vec![0; 200_000]});
    let patch = Value::Array(vec![
        json!({"op": "add", "path": "/a/0", "value": 1});
        10_000
    ]);
    assert_eq!(json::apply(&list, &patch).unwrap_err().status(), 413);
}

#[test]
fn merge_patches_follow_the_examples_of_the_standard() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": "b"}),
            json!({"b": "c"}),
            json!({"a": "b", "b": "c"}),
        ),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        ),
        (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
        (
            json!({}),
            json!({"a": {"bb": {"ccc": null}}}),
            json!({"a": {"bb": {}}}),
        ),
    ];
    for (original, patch, expected) in cases {
        assert_eq!(
            merge::apply(&original, &patch).unwrap(),
            expected,
            "{patch}"
        );
    }
    assert!(merge::apply(&json!({}), &json!([1])).is_err());
}

#[test]
fn a_merged_object_that_nests_too_deeply_is_refused() {
    let deep = (0..101).fold(json!({}), |inner, _| json!({ "a": inner }));
    assert_eq!(merge::apply(&json!({}), &deep).unwrap_err().status(), 413);
}

/// Values without nulls, which a merge patch cannot express.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn objects() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", values(), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

/// The merge patch that turns `from` into `to`.
fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Value {
    let mut patch = Map::new();
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in to {
        match (from.get(name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(name.clone(), difference(old, new));
            }
            (old, value) if old != Some(value) => {
                patch.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
    Value::Object(patch)
}

fn containers() -> impl Strategy<Value = Vec<(String, Map<String, Value>)>> {
    prop::collection::btree_map(
        "[a-f]",
        prop::collection::btree_map("[x-z]", any::<u8>().prop_map(Value::from), 0..3),
        0..5,
    )
    .prop_map(|items| {
        items
            .into_iter()
            .map(|(name, fields)| (name, fields.into_iter().collect()))
            .collect()
    })
}

fn container_list(items: &[(String, Map<String, Value>)]) -> Value {
    let list: Vec<Value> = items
        .iter()
        .map(|(name, fields)| {
            let mut fields = fields.clone();
            fields.insert("name".into(), Value::from(name.as_str()));
            Value::Object(fields)
        })
        .collect();
    json!({"spec": {"containers": list}})
}

fn by_name(object: &Value) -> Map<String, Value> {
    object["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["name"].as_str().unwrap().to_owned(), item.clone()))
        .collect()
}

proptest! {
    #[test]
    fn merging_the_difference_gives_the_other(from in objects(), to in objects()) {
        let (Value::Object(old), Value::Object(new)) = (&from, &to) else { unreachable!() };
        prop_assert_eq!(&merge::apply(&from, &difference(old, new)).unwrap(), &to);
        prop_assert_eq!(&strategic(from.clone(), difference(old, new)).unwrap(), &to);
    }

    #[test]
    fn strategic_patches_of_different_containers_commute(
        original in containers(), left in containers(), right in containers(),
    ) {
        let right: Vec<_> = right
            .into_iter()
            .filter(|(name, _)| left.iter().all(|(other, _)| other != name))
            .collect();
        let (original, left, right) =
            (container_list(&original), container_list(&left), container_list(&right));
        let one = strategic(strategic(original.clone(), left.clone()).unwrap(), right.clone());
        let two = strategic(strategic(original, right).unwrap(), left);
        prop_assert_eq!(by_name(&one.unwrap()), by_name(&two.unwrap()));
    }

    #[test]
    fn a_strategic_patch_applied_twice_is_applied_once(
        original in containers(), patch in containers(),
    ) {
        let once = strategic(container_list(&original), container_list(&patch)).unwrap();
        let twice = strategic(once.clone(), container_list(&patch)).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn no_patch_can_crash_the_reader(original in objects(), patch in values()) {
        let _ = strategic(original.clone(), patch.clone());
        let _ = merge::apply(&original, &patch);
        let _ = json::apply(&original, &patch);
    }
}
