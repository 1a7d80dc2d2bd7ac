//! `FieldsV1`, the form in which objects carry sets of fields.
//!
//! Each step is a key of nested objects: `f:` and a field's name, `k:` and an item's keys,
//! `v:` and a plain value, `i:` and a place. A step that is a member and has others below it
//! holds `.` beside them.

use serde_json::{Map, Value};

use super::set::{FieldSet, Node, PathElement};

/// How deep a set may nest: a little more than the objects it describes.
const MAX_DEPTH: usize = 128;

/// The set as it stands in `managedFields[].fieldsV1`.
pub fn encode(set: &FieldSet) -> Value {
    Value::Object(encode_steps(set))
}

fn encode_steps(set: &FieldSet) -> Map<String, Value> {
    set.steps()
        .map(|(step, node)| (encode_step(step), Value::Object(encode_node(node))))
        .collect()
}

pub(super) fn encode_node(node: &Node) -> Map<String, Value> {
    let mut fields = encode_steps(&node.below);
    if node.member && !fields.is_empty() {
        fields.insert(".".into(), Value::Object(Map::new()));
    }
    fields
}

pub(super) fn encode_step(step: &PathElement) -> String {
    match step {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Key(keys) => format!("k:{keys}"),
        PathElement::Value(value) => format!("v:{value}"),
        PathElement::Index(place) => format!("i:{place}"),
    }
}

/// Reads a set. None if this is not one.
pub fn decode(fields: &Value) -> Option<FieldSet> {
    decode_steps(fields.as_object()?, MAX_DEPTH)
}

fn decode_steps(fields: &Map<String, Value>, depth: usize) -> Option<FieldSet> {
    let depth = depth.checked_sub(1)?;
    let mut set = FieldSet::default();
    for (text, below) in fields.iter().filter(|(text, _)| *text != ".") {
        let below = below.as_object()?;
        let node = Node {
            member: below.is_empty() || below.contains_key("."),
            below: decode_steps(below, depth)?,
        };
        set.put(decode_step(text)?, node);
    }
    Some(set)
}

/// Reads a step. Keys and values are written again in our own spelling, so that the same
/// item has the same text whoever wrote it.
fn decode_step(text: &str) -> Option<PathElement> {
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "f" => Some(PathElement::field(rest)),
        "i" => rest.parse().ok().map(PathElement::Index),
        "v" => serde_json::from_str(rest)
            .ok()
            .map(|value: Value| PathElement::value(&value)),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
            Some(PathElement::key(
                &keys
                    .iter()
                    .map(|(name, value)| (name.as_str(), value))
                    .collect(),
            ))
        }
        _ => None,
    }
}
