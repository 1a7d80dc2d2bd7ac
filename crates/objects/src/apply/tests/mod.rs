//! What users of server-side apply notice, after the behaviours of Kubernetes itself.

mod applying;
mod fields;
mod tracking;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ApplyError, Part, Writer, apply, track, track_in_text};
use crate::{
    schema::{Additional, ListType, Schema, Type, Types},
    shape::Shape,
};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn writer(manager: &str, second: i64) -> Writer<'_> {
    Writer {
        manager,
        api_version: "v1",
        subresource: "",
        part: Part::AllButStatus,
        now: time(second),
    }
}

/// As much of a pod, and of things that other kinds have, as shows every way of merging.
fn schema() -> Schema {
    let port = object([
        ("containerPort", Schema::default()),
        (
            "protocol",
            Schema {
                default: Some(json!("TCP")),
                ..Schema::default()
            },
        ),
        ("name", Schema::default()),
    ]);
    let container = object([
        ("name", Schema::default()),
        ("image", Schema::default()),
        ("args", list(ListType::Atomic, Schema::default())),
        ("ports", list(keys(&["containerPort", "protocol"]), port)),
    ]);
    let strings = || map(Schema::default());
    let limits = map(object([
        ("max", Schema::default()),
        ("min", Schema::default()),
    ]));
    let spec = object([
        ("replicas", Schema::default()),
        ("paused", Schema::default()),
        ("containers", list(keys(&["name"]), container)),
        (
            "selector",
            Schema {
                atomic_map: true,
                ..strings()
            },
        ),
        ("limits", limits),
    ]);
    let metadata = object([
        ("name", Schema::default()),
        ("uid", Schema::default()),
        ("resourceVersion", Schema::default()),
        ("labels", strings()),
        ("annotations", strings()),
        ("finalizers", list(ListType::Set, Schema::default())),
    ]);
    let status = object([("phase", Schema::default())]);
    object([("metadata", metadata), ("spec", spec), ("status", status)])
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

fn map(values: Schema) -> Schema {
    Schema {
        kind: Type::Object,
        additional: Additional::Of(Arc::new(values)),
        ..Schema::default()
    }
}

fn list(list_type: ListType, items: Schema) -> Schema {
    Schema {
        kind: Type::Array,
        items: Some(Arc::new(items)),
        list_type,
        ..Schema::default()
    }
}

fn keys(names: &[&str]) -> ListType {
    ListType::Map(names.iter().map(|name| (*name).to_owned()).collect())
}

/// A whole object from its parts below the root.
fn pod(parts: Value) -> Value {
    let mut whole = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    json_patch::merge(&mut whole, &parts);
    whole
}

fn managers_of(object: &Value) -> Value {
    let managers = object.pointer("/metadata/managedFields").cloned();
    managers.unwrap_or_else(|| json!([]))
}

/// What becomes of the managers when they, and all that a write leaves alone, are not read.
fn in_text(
    shape: Shape<'_>,
    old: Option<&Value>,
    new: &Value,
    writer: &Writer<'_>,
) -> Option<Value> {
    let (mut old, mut new) = (old?.clone(), new.clone());
    let stored = managers_of(&old);
    if managers_of(&new) != stored {
        return None;
    }
    for object in [&mut old, &mut new] {
        object["metadata"].as_object_mut()?.remove("managedFields");
    }
    if old["spec"] == new["spec"] {
        for object in [&mut old, &mut new] {
            object.as_object_mut()?.remove("spec");
        }
    }
    let managers = track_in_text(shape, &old, &new, &stored.to_string(), writer)?;
    Some(serde_json::from_str(&managers).unwrap())
}

/// An object and the people who write to it.
struct Story {
    schema: Schema,
    object: Option<Value>,
    second: i64,
}

impl Story {
    fn new() -> Self {
        Self {
            schema: schema(),
            object: None,
            second: 0,
        }
    }

    fn try_apply(&mut self, manager: &str, parts: Value, force: bool) -> Result<(), ApplyError> {
        self.second += 1;
        let types = Types::new();
        let shape = Shape::object(&self.schema, &types);
        let writer = writer(manager, self.second);
        self.object = Some(apply(
            shape,
            self.object.as_ref(),
            &pod(parts),
            &writer,
            force,
        )?);
        Ok(())
    }

    #[track_caller]
    fn apply(&mut self, manager: &str, parts: Value) -> &mut Self {
        self.try_apply(manager, parts, false).unwrap();
        self
    }

    #[track_caller]
    fn force(&mut self, manager: &str, parts: Value) -> &mut Self {
        self.try_apply(manager, parts, true).unwrap();
        self
    }

    #[track_caller]
    fn refused(&mut self, manager: &str, parts: Value) -> String {
        self.try_apply(manager, parts, false)
            .unwrap_err()
            .to_string()
    }

    /// Replaces the object, as `kubectl replace` does.
    fn replace(&mut self, manager: &str, parts: Value) -> &mut Self {
        self.second += 1;
        let second = self.second;
        self.write(&writer(manager, second), pod(parts))
    }

    /// Merges into the object, as `kubectl patch --type merge` does.
    fn patch(&mut self, manager: &str, patch: Value) -> &mut Self {
        self.second += 1;
        let second = self.second;
        let mut new = self.object.clone().unwrap();
        json_patch::merge(&mut new, &patch);
        self.write(&writer(manager, second), new)
    }

    fn write(&mut self, writer: &Writer<'_>, new: Value) -> &mut Self {
        let types = Types::new();
        let shape = Shape::object(&self.schema, &types);
        let old = self.object.as_ref();
        let tracked = track(shape, old, new.clone(), writer);
        // What is done in text or in place, where that can be, is what is done anew.
        if let Some(managers) = in_text(shape, old, &new, writer) {
            assert_eq!(managers, managers_of(&tracked));
        }
        assert_eq!(tracked, super::track_anew(shape, old, new, writer));
        self.object = Some(tracked);
        self
    }

    fn at(&self, pointer: &str) -> Value {
        self.object
            .as_ref()
            .unwrap()
            .pointer(pointer)
            .cloned()
            .unwrap_or_default()
    }

    /// What a manager owns.
    fn owned(&self, manager: &str) -> Value {
        self.entry(manager)["fieldsV1"].clone()
    }

    fn entry(&self, manager: &str) -> Value {
        let entries = self.at("/metadata/managedFields");
        let found = entries
            .as_array()
            .into_iter()
            .flatten()
            .find(|e| e["manager"] == manager);
        found.cloned().unwrap_or_default()
    }

    fn managers(&self) -> Vec<String> {
        let entries = self.at("/metadata/managedFields");
        let names = entries.as_array().into_iter().flatten();
        names
            .map(|entry| entry["manager"].as_str().unwrap().to_owned())
            .collect()
    }
}
