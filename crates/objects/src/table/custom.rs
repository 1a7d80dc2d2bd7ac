//! Columns that a CustomResourceDefinition declares.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Columns, Definition, age, json_path::JsonPath};

/// A column beside the name.
#[derive(Clone, Debug)]
pub(super) struct CustomColumn {
    kind: String,
    path: Option<JsonPath>,
}

/// The columns of a custom kind: its name, then `additionalPrinterColumns` of the version,
/// or the age if it declares none. A path that cannot be read yields empty cells.
pub(super) fn columns(declared: &[Value]) -> Columns {
    let age = [json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})];
    let declared = if declared.is_empty() {
        &age[..]
    } else {
        declared
    };
    let mut definitions = vec![Definition::name()];
    let mut columns = Vec::with_capacity(declared.len());
    for column in declared {
        let text = |field: &str| {
            column
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        definitions.push(Definition {
            name: text("name").to_owned(),
            kind: text("type").to_owned(),
            format: text("format").to_owned(),
            description: text("description").to_owned(),
            priority: column
                .get("priority")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
        });
        columns.push(CustomColumn {
            kind: text("type").to_owned(),
            path: JsonPath::parse(text("jsonPath")).ok(),
        });
    }
    Columns {
        definitions,
        cells: super::Cells::Custom(columns),
    }
}

impl CustomColumn {
    pub(super) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let value = self.path.as_ref().and_then(|path| path.first(object));
        match (self.kind.as_str(), value) {
            (_, None | Some(Value::Null)) => Value::Null,
            ("string", Some(Value::String(text))) => text.as_str().into(),
            ("string", Some(other)) => other.to_string().into(),
            ("integer", Some(Value::Number(number))) => {
                let whole = number
                    .as_i64()
                    .or_else(|| number.as_f64().map(|float| float as i64));
                whole.map_or(Value::Null, Value::from)
            }
            ("number", Some(number @ Value::Number(_))) => number.clone(),
            ("boolean", Some(flag @ Value::Bool(_))) => flag.clone(),
            ("date", Some(Value::String(text))) => age::since_text(text, now).into(),
            _ => Value::Null,
        }
    }
}
