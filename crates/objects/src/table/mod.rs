//! Tables: lists of objects as `kubectl get` shows them.

mod access;
mod age;
mod builtin;
mod custom;
mod extension;
mod json_path;
mod network;
mod nodes;
mod pods;
mod storage;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use self::{
    age::humanize,
    json_path::{JsonPath, PathError},
};

/// How much of each object stands in its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata, as a `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the value of the option `includeObject`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The columns of a kind, and how to fill them.
#[derive(Clone, Debug)]
pub struct Columns {
    definitions: Vec<Definition>,
    cells: Cells,
}

#[derive(Clone, Debug)]
enum Cells {
    Builtin(fn(&Value, Timestamp) -> Vec<Value>),
    Custom(Vec<custom::CustomColumn>),
}

/// What the head of a column says.
#[derive(Clone, Debug)]
struct Definition {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
}

impl Definition {
    /// The first column of nearly every kind.
    fn name() -> Self {
        Self {
            name: "Name".into(),
            kind: "string".into(),
            format: "name".into(),
            description: "Name must be unique within a namespace.".into(),
            priority: 0,
        }
    }

    fn render(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

impl Columns {
    /// The columns of a built-in kind; those without columns of their own show when they
    /// were created.
    pub fn builtin(group: &str, kind: &str) -> Self {
        builtin::columns(group, kind)
    }

    /// The columns of a custom kind: `additionalPrinterColumns` of its version.
    pub fn custom(declared: &[Value]) -> Self {
        custom::columns(declared)
    }

    /// A table of objects. `list_metadata` is the metadata of the list; a table of one
    /// object, and one that stands in a watch event, has that object's resourceVersion.
    pub fn table<'a>(
        &self,
        objects: impl Iterator<Item = &'a Value>,
        list_metadata: Value,
        include: IncludeObject,
        now: Timestamp,
    ) -> Value {
        let rows: Vec<Value> = objects
            .map(|object| self.row(object, include, now))
            .collect();
        let mut table = self.head(list_metadata);
        table.insert("rows".into(), rows.into());
        Value::Object(table)
    }

    /// A table without rows: all but the field `rows`.
    pub fn head(&self, list_metadata: Value) -> Map<String, Value> {
        let definitions: Vec<Value> = self.definitions.iter().map(Definition::render).collect();
        let mut table = Map::new();
        table.insert("kind".into(), "Table".into());
        table.insert("apiVersion".into(), "meta.k8s.io/v1".into());
        table.insert("metadata".into(), list_metadata);
        table.insert("columnDefinitions".into(), definitions.into());
        table
    }

    /// The row of one object.
    pub fn row(&self, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
        let cells = match &self.cells {
            Cells::Builtin(cells) => cells(object, now),
            Cells::Custom(columns) => {
                let name = object
                    .pointer("/metadata/name")
                    .cloned()
                    .unwrap_or_default();
                let rest = columns.iter().map(|column| column.cell(object, now));
                std::iter::once(name).chain(rest).collect()
            }
        };
        let mut row = Map::new();
        row.insert("cells".into(), cells.into());
        if let Some(condition) = pods::completion(object) {
            row.insert("conditions".into(), json!([condition]));
        }
        match include {
            IncludeObject::None => {}
            IncludeObject::Metadata => {
                row.insert("object".into(), partial(object));
            }
            IncludeObject::Object => {
                row.insert("object".into(), object.clone());
            }
        }
        Value::Object(row)
    }
}

/// The metadata of an object, as an object of its own.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// The text at `pointer`, or nothing.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The text at `pointer`, or `<none>`.
fn text_or_none<'a>(object: &'a Value, pointer: &str) -> &'a str {
    or_none(text(object, pointer))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// The items of the list at `pointer`; nothing if there is none.
fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// How many fields the object at `pointer` has.
fn size(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, Map::len)
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn created(object: &Value, now: Timestamp) -> String {
    age::since(object, "/metadata/creationTimestamp", now)
}

#[cfg(test)]
mod tests;
