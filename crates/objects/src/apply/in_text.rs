//! The tracking of a write that leaves most of its object as it is, whose managers are still the
//! text that they were stored as: only those entries are read that the write concerns.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Writer,
    fields_v1::encode_step,
    in_place::{ORDER, settle, text},
    managers::MAX_UPDATERS,
    set::FieldSet,
    walk::Changes,
};
use crate::shape::Shape;

/// An entry as we write them, with the set of fields as text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry<'a> {
    operation: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    manager: String,
    api_version: String,
    #[serde(default)]
    subresource: String,
    fields_type: String,
    #[serde(borrow, rename = "fieldsV1")]
    fields: &'a RawValue,
}

/// An entry in its place, as text.
type Placed<'a> = ([String; ORDER.len()], Cow<'a, str>);

impl Entry<'_> {
    fn is_ours(&self) -> bool {
        matches!(&*self.operation, "Apply" | "Update") && self.fields_type == "FieldsV1"
    }

    fn is_of(&self, writer: &Writer<'_>) -> bool {
        self.operation == "Update"
            && self.manager == writer.manager
            && self.api_version == writer.api_version
            && self.subresource == writer.subresource
    }

    fn place(self) -> [String; ORDER.len()] {
        [
            self.operation,
            self.time,
            self.manager,
            self.api_version,
            self.subresource,
        ]
    }
}

/// What [`super::track`] would make of `stored`, the text of the managers of `old`: both objects come
/// without them, and without whatever else is the same in both. None where the whole objects must be
/// looked at.
pub fn track(
    shape: Shape<'_>,
    old: &Value,
    new: &Value,
    stored: &str,
    writer: &Writer<'_>,
) -> Option<String> {
    let texts: Vec<&RawValue> = serde_json::from_str(stored).ok()?;
    if texts.is_empty() {
        return None;
    }
    let changes = Changes::between(shape, Some(old), Some(new));
    let mut steps = Vec::new();
    for set in [&changes.added, &changes.modified, &changes.removed] {
        name_members(set, &mut steps);
    }
    let (mut placed, mut concerned) = (Vec::<Placed>::new(), Vec::<Value>::new());
    let mut updaters = 0;
    for whole in texts {
        let entry: Entry = serde_json::from_str(whole.get()).ok()?;
        if !entry.is_ours() {
            return None;
        }
        updaters += usize::from(entry.operation == "Update");
        let fields = entry.fields.get();
        let concerns = |step: &String| fields.contains(step.as_str());
        if entry.is_of(writer) || fields == "{}" || steps.iter().any(concerns) {
            concerned.push(serde_json::from_str(whole.get()).ok()?);
        } else {
            placed.push((entry.place(), whole.get().into()));
        }
    }
    if updaters >= MAX_UPDATERS || !concerned.iter().all(|entry| entry["fieldsV1"].is_object()) {
        return None;
    }
    settle(&mut concerned, &changes, writer);
    placed.extend(concerned.iter().map(|entry| {
        let place = ORDER.map(|name| text(entry, name).to_owned());
        (place, entry.to_string().into())
    }));
    placed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let texts: Vec<&str> = placed.iter().map(|(_, text)| &**text).collect();
    Some(format!("[{}]", texts.join(",")))
}

/// How the last steps to a set's members stand in an entry that has them.
fn name_members(set: &FieldSet, names: &mut Vec<String>) {
    for (step, node) in set.steps() {
        if node.member {
            names.push(Value::from(encode_step(step)).to_string());
        }
        name_members(&node.below, names);
    }
}
