//! Strategic-merge patches: merges that know which lists are maps in disguise.
//!
//! Objects merge as in RFC 7386. Lists whose schema says so merge by a key, or as a set of
//! values. Directives in the patch ask for more: `$patch`, `$deleteFromPrimitiveList/…`,
//! `$setElementOrder/…` and `$retainKeys`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use super::{PatchError, checked_depth};
use crate::shape::Shape;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Returns `original`, an object of the given shape, with the patch applied.
pub fn apply(shape: Shape<'_>, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    let merged = merge_objects(original.clone(), patch.clone(), shape)?;
    checked_depth(Value::Object(merged))
}

/// What the `$patch` directive of an object asks for.
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn take_directive(patch: &mut Map<String, Value>) -> Result<Directive, PatchError> {
    match patch.remove(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(word)) if word == "merge" => Ok(Directive::Merge),
        Some(Value::String(word)) if word == "replace" => Ok(Directive::Replace),
        Some(Value::String(word)) if word == "delete" => Ok(Directive::Delete),
        Some(other) => Err(PatchError::DoesNotApply(format!(
            "unknown patch type: {other} in map: {}",
            Value::Object(std::mem::take(patch))
        ))),
    }
}

fn merge_objects(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    shape: Shape<'_>,
) -> Result<Map<String, Value>, PatchError> {
    match take_directive(&mut patch)? {
        Directive::Merge => {}
        Directive::Replace => return Ok(settled_fields(patch)),
        Directive::Delete => return Ok(Map::new()),
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, shape)?;
    delete_from_primitive_lists(&mut original, &mut patch)?;

    for (name, value) in patch {
        if value.is_null() {
            original.remove(&name);
            continue;
        }
        let field = shape.field(&name);
        let merged = match (original.remove(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                Some(Value::Object(merge_objects(old, new, field)?))
            }
            (Some(Value::Array(old)), Value::Array(new)) if merges(field) => {
                Some(Value::Array(merge_lists(old, new, field)?))
            }
            (_, value) => settled(value),
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
    }
    Ok(original)
}

fn merges(list: Shape<'_>) -> bool {
    list.strategy().is_some_and(|strategy| strategy.merge)
}

fn merge_key(list: Shape<'_>) -> Option<&str> {
    list.strategy()
        .and_then(|strategy| strategy.merge_key.as_deref())
}

/// A patch value that has nothing to merge with, as it should stand in the object:
/// without directives and without the nulls that would have deleted something.
fn settled(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields)
            if fields
                .get(PATCH)
                .is_some_and(|directive| directive == "delete") =>
        {
            None
        }
        Value::Object(fields) => Some(Value::Object(settled_fields(fields))),
        Value::Array(items) => Some(Value::Array(
            items
                .into_iter()
                .filter(|item| item.get(PATCH).is_none_or(|directive| directive == "merge"))
                .filter_map(settled)
                .collect(),
        )),
        plain => Some(plain),
    }
}

fn settled_fields(fields: Map<String, Value>) -> Map<String, Value> {
    fields
        .into_iter()
        .filter(|(name, value)| !value.is_null() && !is_directive(name))
        .filter_map(|(name, value)| Some((name, settled(value)?)))
        .collect()
}

fn is_directive(name: &str) -> bool {
    name == PATCH
        || name == RETAIN_KEYS
        || name.starts_with(DELETE_FROM)
        || name.starts_with(SET_ORDER)
}

/// `$retainKeys`: of the original, only the named fields stay.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    let malformed = || PatchError::Malformed("invalid patch format of retainKeys".into());
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys: HashSet<&str> = directive
        .as_array()
        .ok_or_else(malformed)?
        .iter()
        .map(|key| key.as_str().ok_or_else(malformed))
        .collect::<Result<_, _>>()?;
    let contradicts = patch.iter().any(|(name, value)| {
        !value.is_null() && !is_directive(name) && !keys.contains(name.as_str())
    });
    if contradicts {
        return Err(malformed());
    }
    original.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

/// `$deleteFromPrimitiveList/x`: these values leave the list `x`.
fn delete_from_primitive_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    for (name, values) in take_prefixed(patch, DELETE_FROM) {
        let Value::Array(values) = values else {
            return Err(PatchError::Malformed(
                "invalid patch format of primitive list".into(),
            ));
        };
        let gone: HashSet<String> = values.iter().map(Value::to_string).collect();
        if let Some(Value::Array(list)) = original.get_mut(&name) {
            list.retain(|value| !gone.contains(&value.to_string()));
        }
    }
    Ok(())
}

/// Takes the directives `prefix` + field name out of the patch, by field name.
fn take_prefixed(patch: &mut Map<String, Value>, prefix: &str) -> BTreeMap<String, Value> {
    let names: Vec<String> = patch
        .keys()
        .filter(|name| name.starts_with(prefix))
        .cloned()
        .collect();
    names
        .into_iter()
        .filter_map(|name| Some((name[prefix.len()..].to_owned(), patch.remove(&name)?)))
        .collect()
}

/// `$setElementOrder/x`: merges the list `x` and puts its items in the given order, with
/// the items that only the server knows where they were.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    shape: Shape<'_>,
) -> Result<(), PatchError> {
    for (name, order) in take_prefixed(patch, SET_ORDER) {
        let field = shape.field(&name);
        let key = merge_key(field);
        let order = Identities::of(list(order)?.iter(), key)?;
        let old = original.remove(&name).map(list).transpose()?;
        let new = patch.remove(&name).map(list).transpose()?;
        if let Some(new) = &new {
            order.admits(new, key)?;
        }
        let before = Identities::stored(old.iter().flatten(), key);
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => match settled(Value::Array(new)) {
                Some(Value::Array(settled)) => settled,
                _ => Vec::new(),
            },
            (Some(old), Some(new)) if merges(field) => merge_lists(old, new, field)?,
            (Some(_), Some(new)) => new,
        };
        original.insert(name, Value::Array(in_order(merged, &order, &before, key)));
    }
    Ok(())
}

fn list(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(PatchError::Malformed(
            "invalid patch format of setElementOrder list".into(),
        )),
    }
}

/// Merges a list of objects by key, or a list of plain values as a set.
fn merge_lists(
    original: Vec<Value>,
    patch: Vec<Value>,
    field: Shape<'_>,
) -> Result<Vec<Value>, PatchError> {
    if original.iter().chain(&patch).any(Value::is_array) {
        return Err(PatchError::DoesNotApply(
            "lists of lists are not supported".into(),
        ));
    }
    let objects = original
        .iter()
        .chain(&patch)
        .filter(|item| item.is_object())
        .count();
    if objects == 0 {
        return merge_sets(original, patch);
    }
    if objects != original.len() + patch.len() {
        return Err(PatchError::DoesNotApply(
            "list element types are not identical: objects and plain values in one list".into(),
        ));
    }
    let Some(key) = merge_key(field) else {
        return Err(PatchError::DoesNotApply(
            "cannot merge lists without merge key".into(),
        ));
    };
    merge_keyed(original, patch, key, field.items())
}

fn merge_sets(original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let before = Identities::stored(original.iter(), None);
    let order = Identities::of(patch.iter(), None)?;
    let mut seen = HashSet::new();
    let merged = original
        .into_iter()
        .chain(patch)
        .filter(|value| seen.insert(value.to_string()))
        .collect();
    Ok(in_order(merged, &order, &before, None))
}

fn merge_keyed(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    items: Shape<'_>,
) -> Result<Vec<Value>, PatchError> {
    let mut changes = Vec::with_capacity(patch.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(mut fields) = item else {
            continue;
        };
        match take_directive(&mut fields)? {
            Directive::Merge => changes.push(Value::Object(fields)),
            Directive::Replace => replace = true,
            Directive::Delete => {
                gone.insert(identity(&Value::Object(fields), Some(key))?);
            }
        }
    }
    if replace {
        return Ok(changes.into_iter().filter_map(settled).collect());
    }
    original.retain(|item| identity(item, Some(key)).map_or(true, |id| !gone.contains(&id)));

    let before = Identities::stored(original.iter(), Some(key));
    let order = Identities::of(changes.iter(), Some(key))?;
    let mut places = before.0.clone();
    let mut merged = original;
    for change in changes {
        let id = identity(&change, Some(key))?;
        let place = places.get(&id).copied();
        match (place.and_then(|place| merged.get_mut(place)), change) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                *old = merge_objects(std::mem::take(old), new, items)?;
            }
            (_, change) => {
                if let Some(item) = settled(change) {
                    places.insert(id, merged.len());
                    merged.push(item);
                }
            }
        }
    }
    Ok(in_order(merged, &order, &before, Some(key)))
}

/// What tells an item from its neighbours: the value of its merge key, or itself.
fn identity(item: &Value, key: Option<&str>) -> Result<String, PatchError> {
    match key {
        Some(key) => item.get(key).map(Value::to_string).ok_or_else(|| {
            PatchError::DoesNotApply(format!(
                "map: {item} does not contain declared merge key: {key}"
            ))
        }),
        None => Ok(item.to_string()),
    }
}

/// The items of a list by identity, with the place of each.
#[derive(Clone)]
struct Identities(HashMap<String, usize>);

impl Identities {
    fn of<'a>(
        items: impl Iterator<Item = &'a Value>,
        key: Option<&str>,
    ) -> Result<Self, PatchError> {
        let mut places = HashMap::new();
        for (place, item) in items.enumerate() {
            places.entry(identity(item, key)?).or_insert(place);
        }
        Ok(Self(places))
    }

    /// As [`Self::of`], for stored items: one without the key simply has no identity.
    fn stored<'a>(items: impl Iterator<Item = &'a Value>, key: Option<&str>) -> Self {
        let mut places = HashMap::new();
        for (place, item) in items.enumerate() {
            if let Ok(id) = identity(item, key) {
                places.entry(id).or_insert(place);
            }
        }
        Self(places)
    }

    fn place(&self, item: &Value, key: Option<&str>) -> Option<usize> {
        self.0.get(&identity(item, key).ok()?).copied()
    }

    /// Refuses a patch list whose items this order does not name, or names in another order.
    fn admits(&self, patch: &[Value], key: Option<&str>) -> Result<(), PatchError> {
        let mut last = None;
        for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
            let place = self.0.get(&identity(item, key)?).copied();
            if place.is_none() || place < last {
                return Err(PatchError::DoesNotApply(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list",
                    Value::Array(patch.to_vec())
                )));
            }
            last = place;
        }
        Ok(())
    }
}

/// Puts the items that `order` names in that order, and lets the others keep their places
/// relative to them as they were `before`.
fn in_order(
    items: Vec<Value>,
    order: &Identities,
    before: &Identities,
    key: Option<&str>,
) -> Vec<Value> {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = items
        .into_iter()
        .partition(|item| order.place(item, key).is_some());
    let end = usize::MAX;
    named.sort_by_cached_key(|item| order.place(item, key).unwrap_or(end));
    others.sort_by_cached_key(|item| before.place(item, key).unwrap_or(end));

    let mut ordered = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        if let Some(place) = before.place(&item, key) {
            while let Some(other) =
                others.next_if(|other| before.place(other, key).is_some_and(|p| p < place))
            {
                ordered.push(other);
            }
        }
        ordered.push(item);
    }
    ordered.extend(others);
    ordered
}
