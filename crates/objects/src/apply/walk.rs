//! Which fields a value has, and which differ between two.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::set::{FieldSet, PathElement};
use crate::{
    schema::{ListType, Type},
    shape::Shape,
};

/// The items of a list with the step that leads to each.
pub(super) type Items<'a> = Vec<(PathElement, &'a Value)>;

/// The items of a list that merges item by item. None if the list has one owner, or if an
/// item cannot be told from others: then the list counts as one value.
pub(super) fn items_of<'v>(shape: Shape<'_>, list: &'v [Value]) -> Option<Items<'v>> {
    list.iter()
        .map(|item| Some((step_to(shape, item)?, item)))
        .collect()
}

fn step_to(shape: Shape<'_>, item: &Value) -> Option<PathElement> {
    match shape.list_type() {
        ListType::Atomic => None,
        ListType::Set => (!item.is_object() && !item.is_array()).then(|| PathElement::value(item)),
        ListType::Map(keys) => {
            let fields = item.as_object()?;
            let items = shape.items();
            let mut found = BTreeMap::new();
            for key in keys {
                let default = || items.field(key).schema().and_then(|s| s.default.as_ref());
                if let Some(value) = fields.get(key).or_else(default) {
                    found.insert(key.as_str(), value);
                }
            }
            (!found.is_empty()).then(|| PathElement::key(&found))
        }
    }
}

/// The fields that `value` has: what a manager owns who applies it.
pub(super) fn fields_of(shape: Shape<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(shape, value, &mut Vec::new(), &mut set);
    set
}

fn collect(shape: Shape<'_>, value: &Value, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    match value {
        Value::Object(fields) if !fields.is_empty() && !shape.is_atomic_map() => {
            for (name, field) in fields {
                path.push(PathElement::field(name));
                if !shape.names(name) {
                    set.insert(path);
                }
                collect(shape.field(name), field, path, set);
                path.pop();
            }
        }
        // Of a list that merges, its items are owned; an empty one claims nothing.
        Value::Array(list) if *shape.list_type() != ListType::Atomic => match items_of(shape, list)
        {
            Some(items) => {
                for (step, item) in items {
                    path.push(step);
                    set.insert(path);
                    if item.is_object() {
                        collect(shape.items(), item, path, set);
                    }
                    path.pop();
                }
            }
            None => set.insert(path),
        },
        _ => set.insert(path),
    }
}

/// What a recorded set means under the present schema: who owned part of a list or map that
/// has one owner by now, owns all of it.
pub(super) fn reconciled(shape: Shape<'_>, set: &FieldSet) -> FieldSet {
    let mut now = FieldSet::default();
    for (step, node) in set.steps() {
        let inner = match step {
            PathElement::Field(name) => shape.field(name),
            _ => shape.items(),
        };
        let mut node = node.clone();
        if has_one_owner(inner) && !node.below.is_empty() {
            node.member = true;
            node.below = FieldSet::default();
        } else {
            node.below = reconciled(inner, &node.below);
        }
        now.put(step.clone(), node);
    }
    now
}

fn has_one_owner(shape: Shape<'_>) -> bool {
    let is_list = shape
        .schema()
        .is_some_and(|schema| schema.kind == Type::Array);
    shape.is_atomic_map() || (is_list && *shape.list_type() == ListType::Atomic)
}

/// How one object differs from another.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Changes {
    pub(super) fn between(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut changes = Self::default();
        changes.compare(shape, old, new, &mut Vec::new());
        changes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What was added or got another value.
    pub(super) fn written(&self) -> FieldSet {
        let mut written = self.added.clone();
        written.extend(&self.modified);
        written
    }

    fn compare(
        &mut self,
        shape: Shape<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        path: &mut Vec<PathElement>,
    ) {
        match (old, new) {
            (None, None) => return,
            (Some(old), Some(new)) if old == new => return,
            (None, Some(_)) => self.added.insert(path),
            (Some(_), None) => self.removed.insert(path),
            (Some(old), Some(new)) if is_leaf(shape, old) || is_leaf(shape, new) => {
                self.modified.insert(path);
            }
            (Some(Value::Object(_)), Some(Value::Object(_)))
            | (Some(Value::Array(_)), Some(Value::Array(_))) => {}
            (Some(_), Some(_)) => self.modified.insert(path),
        }
        let (old, new) = (
            old.filter(|old| !is_leaf(shape, old)),
            new.filter(|new| !is_leaf(shape, new)),
        );
        self.compare_fields(shape, old, new, path);
        self.compare_items(shape, old, new, path);
    }

    fn compare_fields(
        &mut self,
        shape: Shape<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        path: &mut Vec<PathElement>,
    ) {
        let old = old.and_then(Value::as_object);
        let new = new.and_then(Value::as_object);
        let names: BTreeSet<&String> = old
            .into_iter()
            .chain(new)
            .flat_map(|fields| fields.keys())
            .collect();
        for name in names {
            let before = old.and_then(|fields| fields.get(name));
            let after = new.and_then(|fields| fields.get(name));
            if before == after || leads_to_managers(path, name) {
                continue;
            }
            path.push(PathElement::field(name));
            self.compare(shape.field(name), before, after, path);
            path.pop();
        }
    }

    fn compare_items(
        &mut self,
        shape: Shape<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        path: &mut Vec<PathElement>,
    ) {
        let mut pairs: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (step, item) in listed(shape, old) {
            pairs.entry(step).or_default().0.push(item);
        }
        for (step, item) in listed(shape, new) {
            pairs.entry(step).or_default().1.push(item);
        }
        for (step, (before, after)) in pairs {
            path.push(step);
            match (before.as_slice(), after.as_slice()) {
                // Items with the same keys cannot be told apart: they change together.
                (before @ [_, _, ..], after) | (before, after @ [_, _, ..]) => {
                    if before != after {
                        self.modified.insert(path);
                    }
                }
                (before, after) => {
                    let (before, after) = (before.first().copied(), after.first().copied());
                    self.compare(shape.items(), before, after, path);
                }
            }
            path.pop();
        }
    }
}

/// Whether a field holds the records of who owns what. No one owns these, and they are the
/// greater part of many objects: whoever compares two need not copy them first to leave them out.
fn leads_to_managers(path: &[PathElement], name: &str) -> bool {
    let [PathElement::Field(parent)] = path else {
        return false;
    };
    &**parent == "metadata" && name == "managedFields"
}

fn listed<'v>(shape: Shape<'_>, value: Option<&'v Value>) -> Items<'v> {
    value
        .and_then(Value::as_array)
        .and_then(|list| items_of(shape, list))
        .unwrap_or_default()
}

/// Whether nothing inside the value has an owner of its own.
fn is_leaf(shape: Shape<'_>, value: &Value) -> bool {
    match value {
        Value::Object(_) => shape.is_atomic_map(),
        Value::Array(list) => items_of(shape, list).is_none(),
        _ => true,
    }
}
