//! What is particular to single kinds as they are written: what the server fills in,
//! and which part of an object each path may change.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::Api;
use crate::kinds::{Kind, definitions};
use crate::object::{as_map, at, child_mut, copy_all_but, copy_field, metadata_mut};
use crate::services::Promise;
use crate::status::Cause;
use crate::subresources::pods;
use crate::verbs::Part;

/// Built-in kinds whose status may come with a new object: those who watch over them make them.
const STATUS_COMES_ALONG: [&str; 3] = ["Node", "PersistentVolume", "CustomResourceDefinition"];

/// Brings a new object of a kind into its first state.
pub(crate) fn begin(kind: &Kind, object: &mut Value) {
    let kept = kind.builtin().is_some() && STATUS_COMES_ALONG.contains(&kind.kind.as_str());
    if kind.has("status") && !kept {
        as_map(object).remove("status");
    }
    if kind.builtin().is_none() {
        return;
    }
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => {
            let class = quality_of_service(object);
            as_map(object).insert(
                "status".into(),
                json!({"phase": "Pending", "qosClass": class}),
            );
        }
        ("", "Namespace") => begin_namespace(object),
        ("", "PersistentVolumeClaim") => {
            as_map(object).insert("status".into(), json!({"phase": "Pending"}));
        }
        ("", "Service") => {
            as_map(object).insert("status".into(), json!({"loadBalancer": {}}));
        }
        ("apiextensions.k8s.io", _) => definitions::begin(object),
        _ => {}
    }
}

/// A namespace stays until its contents are gone, and can be selected by its own name.
fn begin_namespace(object: &mut Value) {
    let name = crate::object::name(object).to_owned();
    let labels = child_mut(metadata_mut(object), "labels");
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    let map = as_map(object);
    child_mut(map, "spec").insert("finalizers".into(), json!(["kubernetes"]));
    map.insert("status".into(), json!({"phase": "Active"}));
}

/// Gives an object what the cluster has only once. The promise is to be kept until the
/// object is stored.
pub(crate) fn assign(
    api: &Api,
    kind: &Kind,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Option<Promise>, Vec<Cause>> {
    if !kind.is("", "Service") {
        return Ok(None);
    }
    let promise = api.services.assign(object, old);
    promise
        .map(Some)
        .map_err(|causes| causes.into_iter().map(Cause::from).collect())
}

/// Prepares an object for its deletion.
pub(crate) fn before_delete(kind: &Kind, object: &mut Value, now: Timestamp) {
    if kind.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        definitions::before_delete(object, now);
    }
}

/// Leaves only those changes that the path may make.
pub(crate) fn isolate(kind: &Kind, part: Part, new: &mut Value, old: &Value) {
    match part {
        Part::Main => {
            if kind.has("status") {
                copy_field(old, new, "status");
            }
            if kind.is("", "Namespace") {
                let finalizers = at(old, &["spec", "finalizers"]).cloned();
                let spec = child_mut(as_map(new), "spec");
                match finalizers {
                    Some(list) => spec.insert("finalizers".into(), list),
                    None => spec.remove("finalizers"),
                };
            }
        }
        Part::Status => only_status(kind, new, old),
        Part::Sub("finalize") => {
            let finalizers = at(new, &["spec", "finalizers"]).cloned();
            let status = new.get("status").cloned();
            *new = old.clone();
            child_mut(as_map(new), "spec")
                .insert("finalizers".into(), finalizers.unwrap_or_else(|| json!([])));
            if let Some(status) = status {
                as_map(new).insert("status".into(), status);
            }
        }
        Part::Sub(part) if kind.is("", "Pod") => pods::isolate(part, new, old),
        Part::Sub(_) => {}
    }
}

fn only_status(kind: &Kind, new: &mut Value, old: &Value) {
    copy_all_but(old, new, &["metadata", "status"]);
    let before = old.get("metadata").unwrap_or(&Value::Null);
    let metadata = as_map(new).entry("metadata").or_insert_with(|| json!({}));
    match kind.builtin() {
        // The status of a built-in kind may bring labels and annotations, but no owners.
        Some(_) => copy_field(before, metadata, "ownerReferences"),
        None => copy_all_but(before, metadata, &["managedFields"]),
    }
}

/// What follows from a write of a kind: what is served may have changed.
pub(crate) async fn written(api: &Api, kind: &Kind) {
    if kind.is("apiextensions.k8s.io", "CustomResourceDefinition") {
        definitions::settle(api).await;
    }
}

/// The class by which a node chooses whom to evict when memory runs out.
fn quality_of_service(pod: &Value) -> &'static str {
    let lists = ["initContainers", "containers"];
    let containers: Vec<&Value> = lists
        .iter()
        .filter_map(|list| at(pod, &["spec", list])?.as_array())
        .flatten()
        .collect();
    let amount = |container: &Value, of: &str, resource: &str| {
        at(container, &["resources", of, resource])
            .filter(|value| !value.is_null())
            .cloned()
    };
    let kinds = ["cpu", "memory"];
    let any = containers.iter().any(|c| {
        kinds
            .iter()
            .any(|r| amount(c, "requests", r).is_some() || amount(c, "limits", r).is_some())
    });
    let all = containers.iter().all(|c| {
        kinds.iter().all(|r| {
            let limit = amount(c, "limits", r);
            limit.is_some() && amount(c, "requests", r).is_none_or(|request| Some(request) == limit)
        })
    });
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
