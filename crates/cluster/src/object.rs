//! The metadata of an object in hand, read and written in one place.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// A text at a path of keys, or the empty string.
pub(crate) fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value at a path of keys.
pub(crate) fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key))
}

/// The metadata, when there is some.
pub(crate) fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata").and_then(Value::as_object)
}

/// The metadata, made when missing. Anything that is not an object is replaced.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(as_map(object), "metadata")
}

/// The object's own fields; anything that is not an object is replaced by an empty one.
pub(crate) fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

/// A field that is an object, made when missing.
pub(crate) fn child_mut<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> &'a mut Map<String, Value> {
    as_map(map.entry(key).or_insert_with(|| Value::Object(Map::new())))
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

pub(crate) fn resource_version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

/// Whether the object is on its way out.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
}

/// Who must agree before the object goes.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = at(object, &["metadata", "finalizers"]).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Replaces the finalizers; none at all leaves no field.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = metadata_mut(object);
    match finalizers.is_empty() {
        true => metadata.remove("finalizers"),
        false => metadata.insert("finalizers".into(), finalizers.into()),
    };
}

/// Whether two objects are the same but for some of their fields. Nothing is copied for it:
/// every update asks.
pub(crate) fn equal_but(one: &Value, other: &Value, fields: &[&str]) -> bool {
    let (Value::Object(one), Value::Object(other)) = (one, other) else {
        return one == other;
    };
    let rest = |map: &Map<String, Value>| {
        let fields = fields.iter().filter(|field| map.contains_key(**field));
        map.len() - fields.count()
    };
    rest(one) == rest(other)
        && one
            .iter()
            .all(|(key, value)| fields.contains(&key.as_str()) || other.get(key) == Some(value))
}

/// What was taken out of an object because it is as it was before.
#[must_use]
pub(crate) struct Aside(Vec<(String, Value)>);

/// Takes out of an object whose metadata or status alone was changed what the change left alone: it
/// has been through its kind's rules before, and is most of the object. After any other change a
/// rule may make one field from another, so all stays.
pub(crate) fn set_aside(object: &mut Value, old: &Value) -> Aside {
    if !equal_but(object, old, &["metadata", "status"]) {
        return Aside(Vec::new());
    }
    let (Value::Object(fields), Value::Object(old)) = (object, old) else {
        return Aside(Vec::new());
    };
    let untouched = |(key, value): (&String, &Value)| {
        let large = value.is_object() || value.is_array();
        let same = match key.as_str() {
            "metadata" => false,
            "status" => old.get(key) == Some(value),
            _ => large,
        };
        same.then(|| key.clone())
    };
    let keys: Vec<String> = fields.iter().filter_map(untouched).collect();
    Aside(
        keys.iter()
            .filter_map(|key| fields.remove_entry(key))
            .collect(),
    )
}

impl Aside {
    /// Puts it back where it was.
    pub(crate) fn put_back(self, object: &mut Value) {
        if !self.0.is_empty() {
            as_map(object).extend(self.0);
        }
    }
}

/// Copies a field from one object to another, absence too. Most are the same already, and to see
/// that takes a fraction of what a copy does.
pub(crate) fn copy_field(from: &Value, to: &mut Value, key: &str) {
    match from.get(key) {
        same if same == to.get(key) => None,
        Some(value) => as_map(to).insert(key.to_owned(), value.clone()),
        None => as_map(to).remove(key),
    };
}

/// Makes an object what another is, but for some of its fields.
pub(crate) fn copy_all_but(from: &Value, to: &mut Value, fields: &[&str]) {
    let Value::Object(all) = from else {
        *to = from.clone();
        return;
    };
    as_map(to).retain(|key, _| fields.contains(&key.as_str()) || all.contains_key(key));
    for key in all.keys().filter(|key| !fields.contains(&key.as_str())) {
        copy_field(from, to, key);
    }
}

/// A time as Kubernetes writes it: whole seconds, UTC.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_change_left_alone_is_set_aside_and_put_back() {
        let old = json!({"kind": "K", "metadata": {"name": "a"}, "spec": {"x": [1]}, "status": {}});
        let mut new =
            json!({"kind": "K", "metadata": {"name": "a"}, "spec": {"x": [1]}, "status": {"y": 1}});
        let whole = new.clone();
        let aside = set_aside(&mut new, &old);
        assert_eq!(
            new,
            json!({"kind": "K", "metadata": {"name": "a"}, "status": {"y": 1}})
        );
        // What a rule makes in its place does not stay.
        as_map(&mut new).insert("spec".into(), json!({"default": true}));
        aside.put_back(&mut new);
        assert_eq!(new, whole);
        // Where more was changed, one field may follow from another.
        new["spec"]["x"] = json!([2]);
        let changed = new.clone();
        let aside = set_aside(&mut new, &old);
        assert_eq!(new, changed);
        aside.put_back(&mut new);
        assert_eq!(new, changed);
    }

    #[test]
    fn objects_are_compared_but_for_some_fields() {
        let object = json!({"metadata": {"name": "a"}, "spec": 1, "status": 2});
        for (other, same) in [
            (
                json!({"metadata": {"name": "b"}, "spec": 1, "status": 2}),
                true,
            ),
            (json!({"spec": 1, "status": 2}), true),
            (
                json!({"metadata": {"name": "a"}, "spec": 2, "status": 2}),
                false,
            ),
            (json!({"metadata": {"name": "a"}, "spec": 1}), false),
            (
                json!({"metadata": {}, "spec": 1, "status": 2, "more": 3}),
                false,
            ),
            (json!({"spec": 1, "more": 2}), false),
            (json!(null), false),
        ] {
            assert_eq!(equal_but(&object, &other, &["metadata"]), same, "{other}");
            assert_eq!(equal_but(&other, &object, &["metadata"]), same, "{other}");
        }
    }
}
