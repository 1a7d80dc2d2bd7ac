//! Patches and applies that were worked out by Kubernetes' own Go libraries, on random pods.
//! Each line of a file is one case; ours must come to the same. Histories in which the Go
//! library leaves nulls behind, which its server then drops, are not among them.

use std::{fs, path::PathBuf};

use sandlot_objects::{
    apply::{ApplyError, Part, Writer, apply, track},
    builtin,
    patch::strategic,
    shape::Shape,
};
use serde_json::{Map, Value};

fn cases(file: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn pod() -> Shape<'static> {
    let pod = builtin::schema("io.k8s.api.core.v1.Pod").unwrap();
    Shape::object(pod, builtin::types())
}

/// Emptied objects and lists may be left empty, or left out: no reader can tell. Directives
/// without anything to act on, which the Go library leaves behind, count for nothing.
fn without_empties(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !name.starts_with('$'))
            .map(|(name, value)| (name.clone(), without_empties(value)))
            .filter(|(_, value)| !is_empty(value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .filter(|item| item["$patch"] != "delete")
            .map(without_empties)
            .collect(),
        plain => plain.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        plain => plain.is_null(),
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, sorted(value)))
            .collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(sorted).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        plain => plain,
    }
}

#[test]
fn strategic_patches_come_to_the_same() {
    for (number, case) in cases("strategic.jsonl").iter().enumerate() {
        let patched = strategic::apply(pod(), &case["original"], &case["patch"]);
        // The Go library loses track of the order when it deletes and adds in one list.
        let ordered = !case["patch"].to_string().contains("\"$patch\":\"delete\"");
        let shown = |object: &Value| match without_empties(object) {
            object if ordered => object,
            object => sorted(object),
        };
        match case.get("expected") {
            Some(expected) => {
                assert_eq!(
                    shown(&patched.unwrap()),
                    shown(expected),
                    "case {number}: {case}"
                );
            }
            None => assert!(patched.is_err(), "case {number}: {case}"),
        }
    }
}

/// What each manager owns, by name.
fn managers(object: &Value) -> Value {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries = entries.into_iter().flatten();
    let owned = |entry: &Value| {
        (
            entry["manager"].as_str().unwrap().into(),
            entry["fieldsV1"].clone(),
        )
    };
    Value::Object(entries.map(owned).collect::<Map<_, _>>())
}

#[test]
fn applies_and_updates_come_to_the_same() {
    for (number, steps) in cases("apply.jsonl").iter().enumerate() {
        let mut live =
            serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        let mut fresh = true;
        for (step_number, step) in steps.as_array().unwrap().iter().enumerate() {
            let place = || format!("case {number}, step {step_number}: {steps}");
            let writer = Writer {
                manager: step["manager"].as_str().unwrap(),
                api_version: "v1",
                subresource: "",
                part: Part::Everything,
                now: jiff::Timestamp::UNIX_EPOCH,
            };
            // Without a manager there is nothing to start from: then the object is new.
            let old = (!fresh).then_some(&live);
            if step["op"] == "update" {
                live = track(pod(), old, step["object"].clone(), &writer);
            } else {
                let force = step["force"].as_bool().unwrap();
                match apply(pod(), old, &step["object"], &writer, force) {
                    Ok(applied) => live = applied,
                    Err(ApplyError::Conflicts(conflicts)) => {
                        let mut ours: Vec<String> = conflicts
                            .0
                            .iter()
                            .map(|c| {
                                let name = c.manager.split('"').nth(1).unwrap();
                                format!("{name} {}", c.path)
                            })
                            .collect();
                        ours.sort();
                        assert_eq!(Value::from(ours), step["conflicts"], "{}", place());
                        continue;
                    }
                    Err(error) => panic!("{}: {error}", place()),
                }
            }
            fresh = false;
            assert_eq!(managers(&live), step["managers"], "{}", place());
            let mut object = live.clone();
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("managedFields");
            assert_eq!(
                without_empties(&object),
                without_empties(&step["expected"]),
                "{}",
                place()
            );
        }
    }
}
