//! JSON as values of CEL, as the schema says.

use std::{collections::HashMap, sync::Arc};

use base64::Engine as _;
use kube_cel::cel::{
    Value,
    objects::{Key, Map},
};

use crate::schema::{Additional, Schema, Type, go_duration, resolve};

/// Words of CEL that a field cannot be called.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A value as its schema says: fields the schema does not describe cannot be seen.
pub(super) fn of_schema(schema: &Schema, json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let schema = resolve(schema);
    match (schema.kind, json) {
        (Type::Object, Json::Object(fields)) => {
            let entries = fields.iter().filter_map(|(name, field)| {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => Some((escape(name), of_schema(property, field))),
                    (None, Additional::Of(of)) => Some((name.clone(), of_schema(of, field))),
                    (None, Additional::Any) => Some((name.clone(), of_json(field))),
                    (None, Additional::None) if schema.preserve_unknown => {
                        Some((escape(name), of_json(field)))
                    }
                    (None, Additional::None) => None,
                }
            });
            map(entries)
        }
        (Type::Array, Json::Array(items)) => match &schema.items {
            Some(of) => Value::List(Arc::new(
                items.iter().map(|item| of_schema(of, item)).collect(),
            )),
            None => of_json(json),
        },
        (Type::Number, Json::Number(number)) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        (Type::Integer, Json::Number(number)) => whole(number),
        (Type::String, Json::String(text)) => formatted(schema.format.as_deref(), text),
        _ => of_json(json),
    }
}

/// A value of which no schema tells.
pub fn of_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::UInt(uint),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(of_json).collect())),
        Json::Object(fields) => map(fields
            .iter()
            .map(|(name, field)| (name.clone(), of_json(field)))),
    }
}

/// A whole number, also where it was written as 3.0.
fn whole(number: &serde_json::Number) -> Value {
    let float = number.as_f64().unwrap_or(f64::NAN);
    match number.as_i64() {
        Some(int) => Value::Int(int),
        // Up to here every whole float is exactly an integer.
        None if float.fract() == 0.0 && float.abs() < 9e15 => Value::Int(float as i64),
        None => Value::Float(float),
    }
}

fn map(entries: impl Iterator<Item = (String, Value)>) -> Value {
    let entries: HashMap<Key, Value> = entries
        .map(|(name, value)| (Key::String(Arc::new(name)), value))
        .collect();
    Value::Map(Map {
        map: Arc::new(entries),
    })
}

fn formatted(format: Option<&str>, text: &str) -> Value {
    let special = match format {
        Some("date-time") => chrono::DateTime::parse_from_rfc3339(text)
            .ok()
            .map(Value::Timestamp),
        Some("date") => {
            let midnight = format!("{text}T00:00:00Z");
            chrono::DateTime::parse_from_rfc3339(&midnight)
                .ok()
                .map(Value::Timestamp)
        }
        Some("duration") => {
            go_duration(text).map(|nanos| Value::Duration(chrono::Duration::nanoseconds(nanos)))
        }
        Some("byte") => base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()
            .map(|bytes| Value::Bytes(Arc::new(bytes))),
        _ => None,
    };
    special.unwrap_or_else(|| Value::String(Arc::new(text.to_owned())))
}

/// A field's name as expressions write it: `a-b` is `a__dash__b`.
pub(super) fn escape(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}
