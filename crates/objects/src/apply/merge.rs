//! What an object becomes when a configuration is applied to it: first everything in the
//! configuration is merged in, then what the manager no longer applies is pruned.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    set::{FieldSet, Node, PathElement},
    walk::{Items, items_of},
};
use crate::{schema::ListType, shape::Shape};

/// Merges `config` into `live`, field by field and item by item.
pub(super) fn merge(shape: Shape<'_>, live: &Value, config: &Value) -> Value {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !shape.is_atomic_map() => {
            let mut merged = live.clone();
            for (name, value) in config {
                let value = match live.get(name) {
                    Some(old) => merge(shape.field(name), old, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(old), Value::Array(new)) => {
            match (items_of(shape, old), items_of(shape, new)) {
                (Some(old), Some(new)) if *shape.list_type() != ListType::Atomic => {
                    Value::Array(merge_items(shape.items(), &old, &new))
                }
                _ => config.clone(),
            }
        }
        _ => config.clone(),
    }
}

/// Merges two lists. The configuration's order holds; items that only the live object has
/// keep their places among the items that both have.
fn merge_items(shape: Shape<'_>, live: &Items<'_>, config: &Items<'_>) -> Vec<Value> {
    let mut known: BTreeMap<&PathElement, Vec<&Value>> = BTreeMap::new();
    for (step, item) in live {
        known.entry(step).or_default().push(item);
    }
    let wanted: BTreeSet<&PathElement> = config.iter().map(|(step, _)| step).collect();
    let merged = |(step, item): &(PathElement, &Value)| match known.get(step).map(Vec::as_slice) {
        Some([old]) => merge(shape, old, item),
        _ => (*item).clone(),
    };
    let mut shared = config
        .iter()
        .map(|(step, _)| step)
        .filter(|step| known.contains_key(step));
    let mut next_shared = shared.next();

    let mut out = Vec::with_capacity(live.len() + config.len());
    let mut config = config.iter().peekable();
    for (step, item) in live {
        if !wanted.contains(step) {
            out.push((*item).clone());
        } else if next_shared == Some(step) {
            // Up to and with this item, the configuration's items come in its own order.
            for wanted in config.by_ref() {
                out.push(merged(wanted));
                if wanted.0 == *step {
                    break;
                }
            }
            next_shared = shared.next();
        }
        // A shared item that is not next comes later, in the configuration's order.
    }
    out.extend(config.map(merged));
    out
}

/// Takes out of `merged` what the manager applied last time, applies no more, and nobody
/// else owns.
pub(super) fn prune(
    shape: Shape<'_>,
    mut merged: Value,
    last: &FieldSet,
    owned: &FieldSet,
) -> Value {
    prune_inside(shape, &mut merged, last, owned);
    merged
}

fn prune_inside(shape: Shape<'_>, value: &mut Value, last: &FieldSet, owned: &FieldSet) {
    match value {
        Value::Object(fields) if !shape.is_atomic_map() => {
            prune_fields(shape, fields, last, owned, &[]);
        }
        Value::Array(list) => {
            let Some(steps) = items_of(shape, list)
                .map(|items| items.into_iter().map(|(step, _)| step).collect::<Vec<_>>())
            else {
                return;
            };
            let mut steps = steps.iter();
            let keys: &[String] = match shape.list_type() {
                ListType::Map(keys) => keys,
                _ => &[],
            };
            list.retain_mut(|item| {
                let Some(step) = steps.next() else {
                    return true;
                };
                match verdict(step, false, last, owned) {
                    Verdict::Keep => {}
                    Verdict::Remove => return false,
                    Verdict::Look(last, owned) => {
                        if let Value::Object(fields) = item {
                            prune_fields(shape.items(), fields, last, owned, keys);
                        }
                    }
                }
                true
            });
        }
        _ => {}
    }
}

fn prune_fields(
    shape: Shape<'_>,
    fields: &mut Map<String, Value>,
    last: &FieldSet,
    owned: &FieldSet,
    keys: &[String],
) {
    if shape.is_atomic_map() {
        return;
    }
    fields.retain(|name, value| {
        let step = PathElement::field(name);
        match verdict(&step, shape.names(name), last, owned) {
            // An item must never lose what it is found by.
            _ if keys.contains(name) => true,
            Verdict::Keep => true,
            Verdict::Remove => false,
            Verdict::Look(last, owned) => {
                let was_empty = is_empty(value);
                prune_inside(shape.field(name), value, last, owned);
                was_empty || !is_empty(value)
            }
        }
    });
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// What becomes of one place.
enum Verdict<'a> {
    /// It was not applied last time, nor was anything inside it.
    Keep,
    /// It goes, with all that is inside it.
    Remove,
    /// It stays; what is inside must be looked at with these sets.
    Look(&'a FieldSet, &'a FieldSet),
}

static NOTHING: Node = Node {
    member: false,
    below: FieldSet::EMPTY,
};

fn verdict<'a>(
    step: &PathElement,
    named_field: bool,
    last: &'a FieldSet,
    owned: &'a FieldSet,
) -> Verdict<'a> {
    let Some(last) = last.get(step) else {
        return Verdict::Keep;
    };
    let owned = owned.get(step).unwrap_or(&NOTHING);
    if last.owned(named_field) && !owned.owned(named_field) {
        return Verdict::Remove;
    }
    Verdict::Look(&last.below, &owned.below)
}
