//! What a user sees when an object does not fit its schema.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Cause, Schema, default, parse_strict, prune, validate};

fn faults(schema: Value, value: Value) -> Vec<String> {
    validate(&Schema::from_json(&schema), &value, None)
        .iter()
        .map(Cause::to_string)
        .collect()
}

/// A schema with one field below `spec`, and a value for that field.
fn field(schema: Value, value: Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": schema}}}});
    faults(schema, json!({"spec": {"x": value}}))
}

#[test]
fn faults_are_told_in_kubernetes_words() {
    let cases: Vec<(Value, Value, &[&str])> = vec![
        (json!({"type": "integer"}), json!(3), &[]),
        (json!({"type": "integer"}), json!(3.0), &[]),
        (
            json!({"type": "integer"}),
            json!("3"),
            &[
                r#"spec.x: Invalid value: "string": spec.x in body must be of type integer: "string""#,
            ],
        ),
        (
            json!({"type": "integer"}),
            json!(3.5),
            &[
                r#"spec.x: Invalid value: "number": spec.x in body must be of type integer: "number""#,
            ],
        ),
        (
            json!({"type": "string"}),
            json!(null),
            &[r#"spec.x: Invalid value: "null": spec.x in body must be of type string: "null""#],
        ),
        (
            json!({"type": "string", "nullable": true}),
            json!(null),
            &[],
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!("80%"),
            &[],
        ),
        (json!({"x-kubernetes-int-or-string": true}), json!(80), &[]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            &[
                r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#,
            ],
        ),
        (
            json!({"type": "string", "enum": ["A", "B"]}),
            json!("C"),
            &[r#"spec.x: Unsupported value: "C": supported values: "A", "B""#],
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            &["spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "maximum": 5, "exclusiveMaximum": true}),
            json!(5),
            &["spec.x: Invalid value: 5: spec.x in body should be less than 5"],
        ),
        (
            json!({"type": "number", "multipleOf": 0.5}),
            json!(0.7),
            &["spec.x: Invalid value: 0.7: spec.x in body should be a multiple of 0.5"],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000u64),
            &[
                r#"spec.x: Invalid value: 3000000000: spec.x in body must be of type int32: "3000000000""#,
            ],
        ),
        (json!({"type": "string", "maxLength": 2}), json!("éé"), &[]),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("abc"),
            &["spec.x: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            &[r#"spec.x: Invalid value: "a": spec.x in body should be at least 2 chars long"#],
        ),
        (
            json!({"type": "string", "pattern": "^[a-z]+$"}),
            json!("A"),
            &[r#"spec.x: Invalid value: "A": spec.x in body should match '^[a-z]+$'"#],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("soon"),
            &[r#"spec.x: Invalid value: "soon": spec.x in body must be of type date-time: "soon""#],
        ),
        (
            json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
            json!(["a", "b"]),
            &["spec.x: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
            json!([]),
            &["spec.x: Invalid value: []: spec.x in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a", 1]),
            &[
                r#"spec.x[1]: Invalid value: "integer": spec.x[1] in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
            json!(["a", "b", "a"]),
            &[r#"spec.x[2]: Duplicate value: "a""#],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "string"}}}}),
            json!([{"n": "a", "v": "1"}, {"n": "a", "v": "2"}]),
            &[r#"spec.x[1]: Duplicate value: {"n":"a"}"#],
        ),
        (
            json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}}}),
            json!({"a": "x"}),
            &["spec.x.b: Required value"],
        ),
        (
            json!({"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}}),
            json!({"a": "x", "b": "y"}),
            &["spec.x: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"a": 1}),
            &[
                r#"spec.x.a: Invalid value: "integer": spec.x.a in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            json!({"kind": ""}),
            &[
                "spec.x.apiVersion: Required value: must not be empty",
                "spec.x.kind: Required value: must not be empty",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({}),
            &[
                r#"<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.x.a: Required value",
            ],
        ),
        (
            json!({"type": "string", "anyOf": [{"pattern": "^a"}, {"maxLength": 1}]}),
            json!("bb"),
            &[
                r#"<nil>: Invalid value: "": "spec.x" must validate at least one schema (anyOf)"#,
                r#"spec.x: Invalid value: "bb": spec.x in body should match '^a'"#,
            ],
        ),
        (
            json!({"type": "string", "not": {"enum": ["z"]}}),
            json!("z"),
            &[r#"<nil>: Invalid value: "": "spec.x" must not validate the schema (not)"#],
        ),
    ];
    for (schema, value, expected) in cases {
        assert_eq!(
            field(schema.clone(), value.clone()),
            expected,
            "{schema} with {value}"
        );
    }
}

#[test]
fn what_an_update_does_not_touch_is_not_faulted() {
    let schema = Schema::from_json(&json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}},
    }}));
    let old = json!({"a": "long", "b": "x", "l": [{"n": "one", "v": 9}, {"n": "two", "v": 1}]});
    let moved = json!({"a": "long", "b": "y", "l": [{"n": "two", "v": 1}, {"n": "one", "v": 9}]});
    assert_eq!(validate(&schema, &moved, Some(&old)), []);
    let worse = json!({"a": "longer", "b": "y", "l": [{"n": "two", "v": 2}, {"n": "one", "v": 9}]});
    let fields: Vec<_> = validate(&schema, &worse, Some(&old))
        .into_iter()
        .map(|cause| cause.field)
        .collect();
    assert_eq!(fields, ["a", "l[0].v"]);
}

#[test]
fn a_value_with_a_million_faults_is_refused_shortly() {
    let value: Vec<Value> = (0..100_000).map(Value::from).collect();
    let faults = field(
        json!({"type": "array", "items": {"type": "string"}}),
        json!(value),
    );
    assert!(faults.len() <= 200);
}

/// Schemas that a CRD may carry, with defaults that fit them.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "default": "d"})),
        Just(json!({"type": "string", "maxLength": 3})),
        Just(json!({"type": "integer", "default": 1, "minimum": 0})),
        Just(json!({"type": "boolean", "nullable": true})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-d]", inner.clone(), 0..4)
                .prop_map(|fields| json!({"type": "object", "properties": fields})),
            prop::collection::btree_map("[a-d]", inner.clone(), 0..4)
                .prop_map(|fields| json!({"type": "object", "default": {}, "properties": fields})),
            inner
                .clone()
                .prop_map(|items| json!({"type": "array", "items": items})),
            inner.prop_map(|of| json!({"type": "object", "additionalProperties": of})),
        ]
    })
}

/// Any JSON, with field names that the schemas use.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-e]", inner, 0..4).prop_map(|fields| json!(fields)),
        ]
    })
}

proptest! {
    #[test]
    fn defaulting_twice_is_defaulting_once(schema in schemas(), value in values()) {
        let schema = Schema::from_json(&schema);
        let mut once = value;
        default(&schema, &mut once);
        let mut twice = once.clone();
        default(&schema, &mut twice);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn pruning_leaves_nothing_to_prune(schema in schemas(), value in values()) {
        let schema = Schema::from_json(&schema);
        let mut pruned = value;
        prune(&schema, &mut pruned);
        prop_assert_eq!(prune(&schema, &mut pruned.clone()), Vec::<String>::new());
    }

    #[test]
    fn a_valid_object_stays_valid_when_defaulted(schema in schemas(), value in values()) {
        let schema = Schema::from_json(&schema);
        let mut value = value;
        default(&schema, &mut value);
        if validate(&schema, &value, None).is_empty() {
            prune(&schema, &mut value);
            default(&schema, &mut value);
            prop_assert_eq!(validate(&schema, &value, None), vec![]);
        }
    }

    #[test]
    fn reading_json_agrees_with_plain_json(value in values()) {
        let (read, twice) = parse_strict(value.to_string().as_bytes()).unwrap();
        prop_assert_eq!(read, value);
        prop_assert!(twice.is_empty());
    }

    #[test]
    fn no_bytes_make_the_reader_fall_over(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_strict(&bytes);
    }
}
