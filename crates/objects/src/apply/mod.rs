//! Server-side apply, and the tracking of field owners on every other write.
//!
//! Both are functions from the stored object, the new one and the writer to what should be
//! stored. The rules are those of Kubernetes' structured merge and diff.

mod check;
mod conflict;
mod fields_v1;
mod in_place;
mod in_text;
mod managers;
mod merge;
mod set;
mod walk;

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

pub use self::{
    conflict::{ApplyError, Conflict, Conflicts},
    fields_v1::{decode as decode_fields, encode as encode_fields},
    in_text::track as track_in_text,
    managers::Operation,
    set::{FieldSet, PathElement},
};
use self::{
    managers::{Holding, Identity, Managers},
    walk::Changes,
};
use crate::shape::Shape;

/// Owns what an object had before anybody applied to it and nobody was recorded.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Which part of an object an endpoint writes. Nobody comes to own a field by sending it to
/// an endpoint that ignores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Every field.
    Everything,
    /// Every field but the status: the main endpoint of a kind that has `/status`.
    AllButStatus,
    /// The status alone: the `/status` endpoint.
    Status,
}

/// Who writes, through which endpoint, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The version of the API that the writer used, as in the object's `apiVersion`.
    pub api_version: &'a str,
    /// The subresource that was written, or nothing.
    pub subresource: &'a str,
    /// Which part of the object this endpoint writes.
    pub part: Part,
    /// The time to record.
    pub now: Timestamp,
}

impl Writer<'_> {
    fn identity(&self, operation: Operation) -> Identity {
        Identity {
            operation,
            manager: self.manager.to_owned(),
            api_version: (operation == Operation::Update).then(|| self.api_version.to_owned()),
            subresource: self.subresource.to_owned(),
        }
    }

    fn holding(&self, set: FieldSet) -> Holding {
        Holding {
            set,
            api_version: self.api_version.to_owned(),
            time: Some(self.now),
        }
    }

    /// Takes out of a set what this writer cannot own.
    fn limit(&self, set: &mut FieldSet) {
        match self.part {
            Part::Everything => {}
            Part::AllButStatus => set.subtract_trees(&FieldSet::of_fields(&[&["status"]])),
            Part::Status => set.retain_field("status"),
        }
        set.subtract(&unowned());
    }
}

/// The fields that the server itself fills in: nobody owns them.
fn unowned() -> FieldSet {
    FieldSet::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
}

/// Applies `config` to the `live` object, which may not exist, and returns what to store.
/// When nothing changes, that is `live` to the letter.
pub fn apply(
    shape: Shape<'_>,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    check_config(shape, config)?;
    let config = relevant(config, writer.part);
    let known = managers_before(shape, live, writer);
    let mut managers = known.clone();
    let empty = Value::Object(serde_json::Map::new());
    let base = live.map_or(Cow::Borrowed(&empty), without_managers);

    for holding in managers.0.values_mut() {
        holding.set = walk::reconciled(shape, &holding.set);
    }
    let id = writer.identity(Operation::Apply);
    let last = managers.0.remove(&id);
    let mut applied = walk::fields_of(shape, &config);
    let mut owned = managers.union();
    owned.extend(&applied);
    let mut merged = merge::merge(shape, &base, &config);
    if let Some(last) = &last {
        let mut let_go = last.set.clone();
        writer.limit(&mut let_go);
        merged = merge::prune(shape, merged, &let_go, &owned);
        // What became empty is gone, unless it is an empty one that was applied.
        merged = merge::merge(shape, &merged, &config);
    }

    let changes = Changes::between(shape, Some(&base), Some(&merged));
    let written = changes.written();
    if !force {
        refuse_conflicts(&managers, &written)?;
    }
    for holding in managers.0.values_mut() {
        holding.set.subtract(&written);
        holding.set.subtract(&changes.removed);
    }
    writer.limit(&mut applied);
    let holding = match last {
        Some(last) if last.set == applied && changes.is_empty() => last,
        _ => writer.holding(applied),
    };
    managers.0.insert(id, holding);
    managers.drop_idle();

    match live {
        Some(live) if changes.is_empty() && managers == known => Ok(live.clone()),
        _ => {
            managers.store(&mut merged);
            Ok(merged)
        }
    }
}

fn check_config(shape: Shape<'_>, config: &Value) -> Result<(), ApplyError> {
    let text = |pointer: &str| {
        config
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if !config.get("metadata").is_some_and(Value::is_object) {
        return Err(ApplyError::Invalid(
            "metadata is required to apply an object".into(),
        ));
    }
    let managers = config.pointer("/metadata/managedFields");
    if managers.is_some_and(|managers| !managers.is_null()) {
        return Err(ApplyError::Invalid(
            "metadata.managedFields must be nil".into(),
        ));
    }
    let problems = check::problems(shape, config);
    if problems.is_empty() {
        return Ok(());
    }
    let (group, version) = text("/apiVersion")
        .split_once('/')
        .unwrap_or(("", text("/apiVersion")));
    Err(ApplyError::Invalid(format!(
        "failed to create typed patch object ({}/{}; {group}/{version}, Kind={}): {}",
        text("/metadata/namespace"),
        text("/metadata/name"),
        text("/kind"),
        problems.join("\n"),
    )))
}

/// The part of a configuration that the endpoint writes, with what names the object.
fn relevant(config: &Value, part: Part) -> Cow<'_, Value> {
    let Value::Object(fields) = config else {
        return Cow::Borrowed(config);
    };
    match part {
        Part::Everything => Cow::Borrowed(config),
        Part::AllButStatus if !fields.contains_key("status") => Cow::Borrowed(config),
        Part::AllButStatus => {
            let mut fields = fields.clone();
            fields.remove("status");
            Cow::Owned(Value::Object(fields))
        }
        Part::Status => {
            let mut fields = fields.clone();
            fields.retain(|name, _| {
                matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
            });
            if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                metadata.retain(|name, _| matches!(name.as_str(), "name" | "namespace"));
            }
            Cow::Owned(Value::Object(fields))
        }
    }
}

/// The managers before an apply. What an object has that nobody was recorded for belongs
/// to a manager of its own, so that applying does not silently take it over.
fn managers_before(shape: Shape<'_>, live: Option<&Value>, writer: &Writer<'_>) -> Managers {
    let Some(live) = live else {
        return Managers::default();
    };
    let known = Managers::of(live).unwrap_or_default();
    if !known.0.is_empty() {
        return known;
    }
    let mut set = Changes::between(shape, None, Some(live)).added;
    set.subtract(&unowned());
    let before = Writer {
        manager: BEFORE_FIRST_APPLY,
        subresource: "",
        ..*writer
    };
    let mut managers = Managers::default();
    managers
        .0
        .insert(before.identity(Operation::Update), before.holding(set));
    managers.drop_idle();
    managers
}

fn without_managers(object: &Value) -> Cow<'_, Value> {
    if object.pointer("/metadata/managedFields").is_none() {
        return Cow::Borrowed(object);
    }
    let mut bare = object.clone();
    if let Some(Value::Object(metadata)) = bare.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    Cow::Owned(bare)
}

fn refuse_conflicts(managers: &Managers, written: &FieldSet) -> Result<(), ApplyError> {
    let mut conflicts = Vec::new();
    for (id, holding) in &managers.0 {
        for path in holding.set.intersection(written).paths() {
            conflicts.push(Conflict {
                manager: id.to_string(),
                path,
            });
        }
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
    Err(ApplyError::Conflicts(Conflicts(conflicts)))
}

/// Records a write other than an apply: returns `new` with the `managedFields` that it
/// should be stored with. `old` is the stored object; without one this is a create.
pub fn track(shape: Shape<'_>, old: Option<&Value>, mut new: Value, writer: &Writer<'_>) -> Value {
    if let Some(old) = old
        && in_place::track(shape, old, &mut new, writer)
    {
        return new;
    }
    track_anew(shape, old, new, writer)
}

/// The same whatever managers the object brings along.
fn track_anew(shape: Shape<'_>, old: Option<&Value>, mut new: Value, writer: &Writer<'_>) -> Value {
    let mut managers = managers_of_write(old, &new, writer);
    if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if old.is_some() && managers.0.is_empty() {
        return new;
    }
    let changes = Changes::between(shape, old, Some(&new));
    let mut written = changes.written();
    for holding in managers.0.values_mut() {
        holding.set.subtract(&written);
        holding.set.subtract(&changes.removed);
    }
    writer.limit(&mut written);
    if !written.is_empty() {
        let id = writer.identity(Operation::Update);
        if let Some(previous) = managers.0.get(&id) {
            written.extend(&previous.set);
        }
        managers.0.insert(id, writer.holding(written));
    }
    managers.drop_idle();
    managers.cap();
    managers.store(&mut new);
    new
}

/// The managers that a write starts from: those that the client sent, if they make sense
/// and this is the main endpoint, or else the stored ones. A client that knows nothing of
/// `managedFields` and drops them changes nothing; one that sends a blank entry resets them.
fn managers_of_write(old: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Managers {
    let stored = || old.and_then(Managers::of).unwrap_or_default();
    if !writer.subresource.is_empty() {
        return stored();
    }
    if Managers::are_reset_by(new) {
        return Managers::default();
    }
    match Managers::of(new) {
        Some(managers) if !managers.0.is_empty() => managers,
        _ => stored(),
    }
}

#[cfg(test)]
mod tests;
