//! Whether the metadata of an object may be stored.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{NameRule, names};
use crate::schema::Cause;

/// How many bytes all annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Finalizers that need no prefix on built-in kinds.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// What the metadata of a kind is held to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What names look like.
    pub name: NameRule,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether the kind is built in: then finalizers without a prefix must be known ones.
    pub builtin: bool,
}

/// What is wrong with the metadata of an object.
pub fn validate(object: &Value, bounds: Bounds) -> Vec<Cause> {
    let empty = Map::new();
    let meta = object
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut causes = Vec::new();
    check_names(meta, bounds, &mut causes);
    check_labels(meta, &mut causes);
    check_annotations(meta, &mut causes);
    check_owners(meta, &mut causes);
    check_finalizers(meta, bounds.builtin, &mut causes);
    causes
}

/// What is wrong with the metadata of an object that replaces another: the part that
/// depends on both.
pub fn validate_update(old: &Value, new: &Value) -> Vec<Cause> {
    let field = |object: &Value, name: &str| {
        object
            .get("metadata")
            .and_then(|meta| meta.get(name))
            .cloned()
            .unwrap_or_default()
    };
    let mut causes = Vec::new();
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (before, after) = (field(old, name), field(new, name));
        if before != after {
            causes.push(Cause::invalid(
                format!("metadata.{name}"),
                &after,
                "field is immutable",
            ));
        }
    }
    if let (Some(before), Some(after)) = (
        field(old, "generation").as_i64(),
        field(new, "generation").as_i64(),
    ) && after < before
    {
        causes.push(Cause::invalid(
            "metadata.generation",
            &after.into(),
            "must not be decremented",
        ));
    }
    if !field(old, "deletionTimestamp").is_null() {
        let texts = |object| -> BTreeSet<String> {
            let list = field(object, "finalizers");
            let items = list.as_array().into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let before = texts(old);
        let added: Vec<String> = texts(new).difference(&before).cloned().collect();
        if !added.is_empty() {
            causes.push(Cause::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new \
                     finalizers []string{{{}}}",
                    added
                        .iter()
                        .map(|one| format!("{one:?}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            ));
        }
    }
    causes
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn check_names(meta: &Map<String, Value>, bounds: Bounds, causes: &mut Vec<Cause>) {
    let generate = text(meta, "generateName");
    if !generate.is_empty() {
        let faults = bounds.name.prefix_faults(generate);
        causes.extend(
            faults
                .iter()
                .map(|fault| Cause::invalid("metadata.generateName", &generate.into(), fault)),
        );
    }
    let name = text(meta, "name");
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        let faults = bounds.name.faults(name);
        causes.extend(
            faults
                .iter()
                .map(|fault| Cause::invalid("metadata.name", &name.into(), fault)),
        );
    }
    let namespace = text(meta, "namespace");
    match (bounds.namespaced, namespace) {
        (true, "") => causes.push(Cause::required("metadata.namespace", "")),
        (true, namespace) => causes.extend(
            names::label(namespace)
                .iter()
                .map(|fault| Cause::invalid("metadata.namespace", &namespace.into(), fault)),
        ),
        (false, "") => {}
        (false, _) => {
            causes.push(Cause::forbidden(
                "metadata.namespace",
                "not allowed on this type",
            ));
        }
    }
}

fn check_labels(meta: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let labels = meta.get("labels").and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        for fault in names::qualified_name(key) {
            causes.push(Cause::invalid(
                "metadata.labels",
                &key.as_str().into(),
                fault,
            ));
        }
        for fault in names::label_value(value) {
            causes.push(Cause::invalid("metadata.labels", &value.into(), fault));
        }
    }
}

fn check_annotations(meta: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let annotations = meta.get("annotations").and_then(Value::as_object);
    let mut total = 0;
    for (key, value) in annotations.into_iter().flatten() {
        // Unlike those of labels, prefixes of annotations may be in upper case.
        for fault in names::qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid(
                "metadata.annotations",
                &key.as_str().into(),
                fault,
            ));
        }
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATIONS {
        causes.push(Cause::too_long(
            "metadata.annotations",
            MAX_ANNOTATIONS as u64,
        ));
    }
}

fn check_owners(meta: &Map<String, Value>, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.ownerReferences";
    let Some(owners) = meta.get("ownerReferences") else {
        return;
    };
    let mut controller: Option<String> = None;
    for owner in owners
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
    {
        let api_version = text(owner, "apiVersion");
        if api_version.is_empty() || api_version.ends_with('/') {
            causes.push(Cause::invalid(
                format!("{FIELD}.apiVersion"),
                &api_version.into(),
                "version must not be empty",
            ));
        }
        for name in ["kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                causes.push(Cause::invalid(
                    format!("{FIELD}.{name}"),
                    &"".into(),
                    "must not be empty",
                ));
            }
        }
        if matches!(
            (api_version, text(owner, "kind")),
            ("v1" | "events.k8s.io/v1", "Event")
        ) {
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            causes.push(Cause::invalid(
                FIELD,
                &Value::Object(owner.clone()),
                format!("{group}/v1, Kind=Event is disallowed from being an owner"),
            ));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => causes.push(Cause::invalid(
                    FIELD,
                    owners,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in \
                         references for {first} and {this}"
                    ),
                )),
            }
        }
    }
}

fn check_finalizers(meta: &Map<String, Value>, builtin: bool, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.finalizers";
    let Some(finalizers) = meta.get("finalizers") else {
        return;
    };
    let mut seen = BTreeSet::new();
    let list = finalizers
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    for (place, finalizer) in list.enumerate() {
        seen.insert(finalizer);
        for fault in names::qualified_name(finalizer) {
            causes.push(Cause::invalid(FIELD, &finalizer.into(), fault));
        }
        if builtin && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            causes.push(Cause::invalid(
                format!("{FIELD}[{place}]"),
                &finalizer.into(),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    if seen.contains("orphan") && seen.contains("foregroundDeletion") {
        causes.push(Cause::invalid(
            FIELD,
            finalizers,
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}
