//! The tracking of a write whose object brings along the managers it was stored with, as nearly
//! all do: their entries are changed where they stand, so the work is in proportion to what the
//! write changes and not to all that anybody owns.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{
    Operation, Writer,
    fields_v1::{encode_node, encode_step},
    managers::{self, MAX_UPDATERS},
    set::FieldSet,
    walk::Changes,
};
use crate::shape::Shape;

/// Does to `new` what [`super::track`] does, and says whether it could.
pub(super) fn track(shape: Shape<'_>, old: &Value, new: &mut Value, writer: &Writer<'_>) -> bool {
    let Some(stored) = managers_in(old).filter(|stored| stored.iter().all(is_entry)) else {
        return false;
    };
    let sent = managers_in(new);
    let as_stored = sent.is_none_or(|sent| sent.is_empty() || sent == stored);
    if !as_stored && writer.subresource.is_empty() {
        return false;
    }
    let updaters = stored
        .iter()
        .filter(|entry| text(entry, "operation") == "Update");
    if updaters.count() >= MAX_UPDATERS {
        return false;
    }
    let changes = Changes::between(shape, Some(old), Some(new));
    let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) else {
        return false;
    };
    // Nearly always they came along, and need not be copied once more.
    let mut entries = match metadata.remove("managedFields") {
        Some(Value::Array(sent)) if as_stored && !sent.is_empty() => sent,
        _ => stored.clone(),
    };
    settle(&mut entries, &changes, writer);
    entries.sort_by(in_order);
    if !entries.is_empty() {
        metadata.insert("managedFields".into(), Value::Array(entries));
    }
    true
}

/// What becomes of entries by these changes of a writer.
pub(super) fn settle(entries: &mut Vec<Value>, changes: &Changes, writer: &Writer<'_>) {
    let mut written = changes.written();
    for entry in entries.iter_mut() {
        if let Some(fields) = fields_of(entry) {
            subtract(fields, &written);
            subtract(fields, &changes.removed);
        }
    }
    writer.limit(&mut written);
    if !written.is_empty() {
        own(entries, &written, writer);
    }
    entries.retain(|entry| !entry["fieldsV1"].as_object().is_none_or(Map::is_empty));
}

fn managers_in(object: &Value) -> Option<&Vec<Value>> {
    object.pointer("/metadata/managedFields")?.as_array()
}

/// Whether this is an entry as we write them.
fn is_entry(entry: &Value) -> bool {
    matches!(text(entry, "operation"), "Apply" | "Update")
        && text(entry, "fieldsType") == "FieldsV1"
        && entry.get("apiVersion").is_some_and(Value::is_string)
        && entry.get("fieldsV1").is_some_and(Value::is_object)
}

pub(super) fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn fields_of(entry: &mut Value) -> Option<&mut Map<String, Value>> {
    entry.get_mut("fieldsV1")?.as_object_mut()
}

/// By what managers are listed.
pub(super) const ORDER: [&str; 5] = ["operation", "time", "manager", "apiVersion", "subresource"];

fn in_order(one: &Value, other: &Value) -> Ordering {
    ORDER
        .iter()
        .map(|name| text(one, name).cmp(text(other, name)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Adds what was written to what the writer owns, now.
fn own(entries: &mut Vec<Value>, written: &FieldSet, writer: &Writer<'_>) {
    let is_writers = |entry: &Value| {
        text(entry, "operation") == "Update"
            && text(entry, "manager") == writer.manager
            && text(entry, "apiVersion") == writer.api_version
            && text(entry, "subresource") == writer.subresource
    };
    let id = writer.identity(Operation::Update);
    let fresh = managers::encode(&id, &writer.holding(written.clone()));
    match entries.iter_mut().find(|entry| is_writers(entry)) {
        Some(entry) => {
            let mut fields = entry["fieldsV1"].take();
            if let Some(fields) = fields.as_object_mut() {
                extend(fields, written);
            }
            *entry = fresh;
            entry["fieldsV1"] = fields;
        }
        None => entries.push(fresh),
    }
}

/// Takes the members of a set out of another in its written form.
fn subtract(fields: &mut Map<String, Value>, other: &FieldSet) {
    for (step, theirs) in other.steps() {
        let step = encode_step(step);
        let Some(below) = fields.get_mut(&step).and_then(Value::as_object_mut) else {
            continue;
        };
        let stays = is_member(below) && !theirs.member;
        subtract(below, &theirs.below);
        if !stays {
            below.remove(".");
        }
        match below.is_empty() {
            true if !stays => drop(fields.remove(&step)),
            // A member with nothing below it is written as nothing at all.
            _ if stays && below.len() == 1 => drop(below.remove(".")),
            _ => {}
        }
    }
}

/// Adds the members of a set to another in its written form.
fn extend(fields: &mut Map<String, Value>, other: &FieldSet) {
    for (step, theirs) in other.steps() {
        let step = encode_step(step);
        let Some(below) = fields.get_mut(&step).and_then(Value::as_object_mut) else {
            fields.insert(step, Value::Object(encode_node(theirs)));
            continue;
        };
        let member = is_member(below) || theirs.member;
        extend(below, &theirs.below);
        if member && !below.is_empty() {
            below.insert(".".into(), Value::Object(Map::new()));
        }
    }
}

/// Whether a place is a member of the set, and not only on the way to others.
fn is_member(below: &Map<String, Value>) -> bool {
    below.is_empty() || below.contains_key(".")
}
