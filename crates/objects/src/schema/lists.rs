//! Items of lists: which repeat, and which item of an old list is the same one.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::ListType;

/// The items that stood before in the same list, with what to show of them.
pub(super) fn repeated(items: &[Value]) -> Vec<(usize, Value)> {
    let mut seen = HashSet::with_capacity(items.len());
    let repeats = items
        .iter()
        .enumerate()
        .filter(|(_, item)| !seen.insert(item.to_string()));
    repeats.map(|(index, item)| (index, item.clone())).collect()
}

/// The items whose keys stood before in the same list, with those keys.
pub(super) fn repeated_keys(items: &[Value], keys: &[String]) -> Vec<(usize, Value)> {
    let mut seen = HashSet::with_capacity(items.len());
    let mut repeats = Vec::new();
    for (index, item) in items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.is_object())
    {
        let key = key_of(item, keys);
        if !seen.insert(key.to_string()) {
            repeats.push((index, key));
        }
    }
    repeats
}

/// The keys of an item, as an object with those fields that it has.
fn key_of(item: &Value, keys: &[String]) -> Value {
    let present = keys
        .iter()
        .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(present.collect::<Map<_, _>>())
}

/// Finds the old item that a new item continues.
///
/// Only items with keys have such an identity; in other lists nothing is continued.
pub(crate) struct Correlation<'v> {
    keys: &'v [String],
    old: HashMap<String, &'v Value>,
}

impl<'v> Correlation<'v> {
    /// Prepares the old list, if there is one.
    pub(crate) fn new(list_type: &'v ListType, old: Option<&'v Value>) -> Self {
        let (keys, items): (&[String], &[Value]) = match (list_type, old) {
            (ListType::Map(keys), Some(Value::Array(items))) => (keys, items),
            _ => (&[], &[]),
        };
        let old = items
            .iter()
            .map(|item| (key_of(item, keys).to_string(), item))
            .collect();
        Self { keys, old }
    }

    /// The old item with the same keys.
    pub(crate) fn of(&self, item: &Value) -> Option<&'v Value> {
        if self.old.is_empty() {
            return None;
        }
        self.old.get(&key_of(item, self.keys).to_string()).copied()
    }
}
