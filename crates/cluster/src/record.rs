//! How an object lies in the store: JSON that begins with its version, kind and
//! resource version, and a few facts that lists and watches ask for.
//!
//! The bytes are what a client gets. Lists and watches hand them out as they are, so
//! reading ten thousand objects parses none of them.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use sandlot_objects::selector::text_at;
use sandlot_store::{Change, Key, Record as StoreRecord};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::kinds::builtin;
use crate::lookup::Leaving;
use crate::verbs::{FOREGROUND, ORPHAN};

/// A version of an object in the store.
pub(crate) type Record = StoreRecord<Facts>;

/// What lists, watches and housekeeping want to know without parsing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The object's uid.
    pub(crate) uid: Box<str>,
    /// Its labels, in order of their keys.
    pub(crate) labels: Box<[(Box<str>, Box<str>)]>,
    /// The values of the fields that a built-in kind can be selected by, in the order of its row.
    pub(crate) fields: Box<[Box<str>]>,
    /// Its owners.
    pub(crate) owners: Box<[Owner]>,
    /// Whether it is on its way out…
    pub(crate) deleting: bool,
    /// …but stays until what it owns is deleted…
    pub(crate) foreground: bool,
    /// …or set free.
    pub(crate) orphan: bool,
}

/// What an object says of one of its owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: Box<str>,
    /// Whether an owner that is deleted in the foreground waits for this object.
    pub(crate) blocks: bool,
}

impl sandlot_store::Facts for Facts {
    fn of(key: &Key, value: &[u8]) -> Facts {
        let Ok(object) = serde_json::from_slice::<Value>(value) else {
            tracing::error!(kind = %key.kind, namespace = %key.namespace, name = %key.name, "a stored object is not JSON");
            return Facts::default();
        };
        Facts::of_object(&key.kind, &object)
    }
}

impl Leaving for Facts {
    fn is_leaving(&self) -> bool {
        self.deleting
    }
}

impl Facts {
    fn of_object(kind: &str, object: &Value) -> Facts {
        let metadata = crate::object::metadata(object);
        let field = |name: &str| metadata.and_then(|m| m.get(name));
        let labels = field("labels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let owners = field("ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        Facts {
            uid: crate::object::uid(object).into(),
            labels: labels
                .filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into())))
                .collect(),
            fields: builtin::selectable(kind)
                .iter()
                .map(|path| text_at(object, path).into())
                .collect(),
            owners: owners
                .filter_map(|owner| {
                    let blocks = owner.get("blockOwnerDeletion").and_then(Value::as_bool);
                    Some(Owner {
                        uid: owner.get("uid")?.as_str()?.into(),
                        blocks: blocks.unwrap_or(false),
                    })
                })
                .collect(),
            deleting: crate::object::is_deleting(object),
            foreground: crate::object::finalizers(object).contains(&FOREGROUND),
            orphan: crate::object::finalizers(object).contains(&ORPHAN),
        }
    }

    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let found = self
            .labels
            .binary_search_by(|(k, _)| k.as_ref().cmp(key))
            .ok()?;
        Some(&self.labels[found].1)
    }
}

/// The beginning of every stored object, up to its resource version.
const BEFORE_VERSION: &str = "{\"apiVersion\":";

/// Stores an object of a kind. The store adds the revision as it assigns it.
pub(crate) fn put(kind: &str, object: Value) -> Change<Facts> {
    let facts = Facts::of_object(kind, &object);
    let (head, tail) = halves(object);
    Change::put(facts, move |revision| joined(&head, revision, &tail))
}

/// What a change leaves of an object as it is, in the text that it was stored as.
pub(crate) struct Rest<'a> {
    /// Who owns which of its fields.
    pub(crate) managers: &'a str,
    /// All beside its version, kind and metadata.
    pub(crate) fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Rest<'a> {
    /// The same under other managers.
    pub(crate) fn under(self, managers: &'a str) -> Rest<'a> {
        Rest { managers, ..self }
    }
}

/// Stores an object of which only the metadata was changed, without the managers of its fields, in
/// the place of one with these facts.
pub(crate) fn put_around(
    kind: &str,
    object: Value,
    rest: &Rest<'_>,
    facts: &Facts,
) -> Change<Facts> {
    let facts = Facts {
        // Nothing of the metadata that can be selected by can be changed.
        fields: facts.fields.clone(),
        ..Facts::of_object(kind, &object)
    };
    let (head, tail) = halves_around(object, rest);
    Change::put(facts, move |revision| joined(&head, revision, &tail))
}

/// Removes an object of a kind, of which this is the last state.
pub(crate) fn delete(kind: &str, last: Value) -> Change<Facts> {
    let facts = Facts::of_object(kind, &last);
    let (head, tail) = halves(last);
    Change::delete(facts, move |revision| joined(&head, revision, &tail))
}

/// The bytes of an object as they would be stored at a revision.
pub(crate) fn encode(object: Value, revision: u64) -> Bytes {
    let (head, tail) = halves(object);
    joined(&head, revision, &tail)
}

fn joined(head: &[u8], revision: u64, tail: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(head.len() + 20 + tail.len());
    bytes.put_slice(head);
    bytes.put_slice(revision.to_string().as_bytes());
    bytes.put_slice(tail);
    bytes.freeze()
}

/// What comes before and after the revision.
fn halves(object: Value) -> (Vec<u8>, Vec<u8>) {
    let none = Rest {
        managers: "",
        fields: BTreeMap::new(),
    };
    halves_around(object, &none)
}

/// The same of an object that has a rest.
fn halves_around(object: Value, rest: &Rest<'_>) -> (Vec<u8>, Vec<u8>) {
    let Value::Object(mut map) = object else {
        return (
            b"{\"metadata\":{\"resourceVersion\":\"".to_vec(),
            b"\"}}".to_vec(),
        );
    };
    let mut take = |key: &str| map.remove(key).unwrap_or(Value::Null);
    let (version, kind, metadata) = (take("apiVersion"), take("kind"), take("metadata"));
    let head =
        format!("{BEFORE_VERSION}{version},\"kind\":{kind},\"metadata\":{{\"resourceVersion\":\"");
    let mut tail = b"\"".to_vec();
    if let Value::Object(mut metadata) = metadata {
        metadata.remove("resourceVersion");
        push_fields(&mut tail, metadata);
    }
    if !rest.managers.is_empty() {
        tail.extend_from_slice(b",\"managedFields\":");
        tail.extend_from_slice(rest.managers.as_bytes());
    }
    tail.push(b'}');
    push_fields(&mut tail, map);
    push_fields(&mut tail, &rest.fields);
    tail.push(b'}');
    (head.into_bytes(), tail)
}

fn push_fields(
    out: &mut Vec<u8>,
    fields: impl IntoIterator<Item = (impl Serialize, impl Serialize)>,
) {
    for (key, value) in fields {
        out.push(b',');
        push(out, &key);
        out.push(b':');
        push(out, &value);
    }
}

fn push(out: &mut Vec<u8>, value: &impl Serialize) {
    // A vector takes everything, and neither texts nor JSON values can fail to be written.
    let _ = serde_json::to_writer(out, value);
}

/// Whether stored bytes are of a version.
pub(crate) fn is_of_version(bytes: &[u8], api_version: &str) -> bool {
    let quoted = Value::from(api_version).to_string();
    let rest = bytes.strip_prefix(BEFORE_VERSION.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(quoted.as_bytes()))
}

/// The same object under another version of its kind that shares its schema.
pub(crate) fn with_api_version(bytes: &Bytes, api_version: &str) -> Bytes {
    let Some(rest) = bytes.strip_prefix(BEFORE_VERSION.as_bytes()) else {
        return bytes.clone();
    };
    let quoted = Value::from(api_version).to_string();
    if rest.starts_with(quoted.as_bytes()) {
        return bytes.clone();
    }
    // The version is a JSON text without escapes: group and version are DNS names.
    let Some(end) = rest.iter().skip(1).position(|byte| *byte == b'"') else {
        return bytes.clone();
    };
    let mut out = BytesMut::with_capacity(bytes.len() + quoted.len());
    out.put_slice(BEFORE_VERSION.as_bytes());
    out.put_slice(quoted.as_bytes());
    out.put_slice(&rest[end + 2..]);
    out.freeze()
}

/// The same object with another resource version: how a watch shows what left its selection.
pub(crate) fn with_revision(bytes: &Bytes, revision: u64) -> Bytes {
    const MARK: &[u8] = b"\"resourceVersion\":\"";
    // The first one is the object's own: only version and kind come before it.
    let Some(start) = bytes
        .windows(MARK.len())
        .position(|window| window == MARK)
        .map(|at| at + MARK.len())
    else {
        return bytes.clone();
    };
    let digits = bytes[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    joined(&bytes[..start], revision, &bytes[start + digits..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stored_object_carries_its_revision_and_nothing_is_lost() {
        let object = json!({
            "apiVersion": "x.io/v1", "kind": "Pool", "spec": {"a": [1, 2]},
            "metadata": {"name": "p", "resourceVersion": "3", "labels": {"a\"b": "c"}},
        });
        let bytes = encode(object.clone(), 77);
        let read: Value = serde_json::from_slice(&bytes).expect("JSON");
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = "77".into();
        assert_eq!(read, expected);
    }

    #[tokio::test]
    async fn the_facts_of_a_write_are_those_that_a_restart_reads() {
        use sandlot_store::{Config, Expect, Facts as _, Store};
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n"}, "status": {"phase": "Running"},
            "metadata": {
                "name": "p", "uid": "u", "labels": {"b": "2", "a": "1"}, "finalizers": ["orphan"],
                "deletionTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"uid": "o", "blockOwnerDeletion": true}],
            },
        });
        let store = Store::<Facts>::open(Config::in_memory()).expect("a store opens");
        let key = Key::new("pods", "default", "p");
        for object in [
            pod,
            json!({"metadata": {}}),
            json!({"metadata": {"labels": {}}}),
        ] {
            let expect = store
                .get(&key)
                .map_or(Expect::Absent, |record| Expect::Revision(record.revision));
            let written = store.write(key.clone(), expect, put("pods", object)).await;
            let written = written.expect("it is written");
            assert_eq!(written.facts, Facts::of(&written.key, &written.value));
        }
        store.close().await;
    }

    #[test]
    fn another_revision_changes_only_the_revision() {
        let bytes = encode(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}),
            5,
        );
        let expected = encode(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}),
            123,
        );
        assert_eq!(with_revision(&bytes, 123), expected);
    }

    #[test]
    fn another_version_changes_only_the_version() {
        let bytes = encode(
            json!({"apiVersion": "x.io/v1alpha1", "kind": "Pool", "metadata": {"name": "p"}}),
            5,
        );
        let read: Value =
            serde_json::from_slice(&with_api_version(&bytes, "x.io/v2")).expect("JSON");
        assert_eq!(read["apiVersion"], "x.io/v2");
        assert_eq!(read["metadata"]["name"], "p");
    }
}
