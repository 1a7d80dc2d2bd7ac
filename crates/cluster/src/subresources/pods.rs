//! What can be done with a pod beside writing it: giving it a node, evicting it, adding
//! ephemeral containers and changing the resources of those it has.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::intake::expect_kind;
use crate::object::{as_map, at, child_mut, metadata_mut, seconds, text};
use crate::request::{Request, Verb, parse_delete_body};
use crate::status::ApiError;
use crate::verbs::{self, Part, change};

/// Gives the pod that the binding in the body names its node: the way of old schedulers.
pub(crate) async fn bind_by_name(call: &mut Call) -> Result<Answer, ApiError> {
    let Request {
        verb,
        namespace,
        name,
        ..
    } = &call.request;
    if *verb != Verb::Create || namespace.is_none() || name.is_some() {
        return Err(ApiError::method_not_allowed());
    }
    let (binding, _) = call.decode()?;
    let name = crate::object::name(&binding);
    if name.is_empty() {
        return Err(ApiError::bad_request(
            "a binding needs the name of its pod in metadata.name",
        ));
    }
    call.request.name = Some(name.to_owned());
    let pods = call.kinds.find("", "v1", "pods");
    call.kind = pods.ok_or_else(ApiError::no_such_path)?;
    bind(call).await
}

/// Gives a pod its node, once.
pub(crate) async fn bind(call: &mut Call) -> Result<Answer, ApiError> {
    if call.request.verb != Verb::Create {
        return Err(ApiError::method_not_allowed());
    }
    let (mut binding, _) = call.decode()?;
    expect_kind(&mut binding, "v1", "Binding", true)?;
    let node = text(&binding, &["target", "name"]).to_owned();
    let kind = text(&binding, &["target", "kind"]);
    if node.is_empty() || !matches!(kind, "" | "Node") {
        return Err(ApiError::bad_request(
            "a binding needs a target of kind Node with a name",
        ));
    }
    let uid = crate::object::uid(&binding).to_owned();
    let now = seconds(call.api.now());
    change(call, Part::Sub("binding"), |call, old| {
        let name = call.request.name();
        let conflict = |why: &str| Err(ApiError::conflict("", "pods/binding", name, why));
        if !uid.is_empty() && uid != crate::object::uid(old) {
            return conflict(&format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                crate::object::uid(old)
            ));
        }
        if crate::object::is_deleting(old) {
            return conflict(&format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            ));
        }
        let bound = text(old, &["spec", "nodeName"]);
        if !bound.is_empty() {
            return conflict(&format!("pod {name} is already assigned to node {bound:?}"));
        }
        Ok(assigned(old, &node, &binding, &now))
    })
    .await?;
    Ok(Answer::Value(StatusCode::CREATED, done(201)))
}

fn assigned(pod: &Value, node: &str, binding: &Value, now: &str) -> Value {
    let mut pod = pod.clone();
    let annotations = at(binding, &["metadata", "annotations"]).and_then(Value::as_object);
    if let Some(more) = annotations {
        let own = child_mut(metadata_mut(&mut pod), "annotations");
        own.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    child_mut(as_map(&mut pod), "spec").insert("nodeName".into(), node.into());
    let status = child_mut(as_map(&mut pod), "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|condition| condition["type"] != "PodScheduled");
        list.push(json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now, "lastProbeTime": null}));
    }
    pod
}

/// Deletes a pod on behalf of somebody who wants its node.
pub(crate) async fn evict(call: &mut Call) -> Result<Answer, ApiError> {
    if call.request.verb != Verb::Create {
        return Err(ApiError::method_not_allowed());
    }
    let (mut eviction, _) = call.decode()?;
    let version = match text(&eviction, &["apiVersion"]) {
        "policy/v1beta1" => "policy/v1beta1",
        _ => "policy/v1",
    };
    expect_kind(&mut eviction, version, "Eviction", true)?;
    let own = crate::object::name(&eviction);
    if !own.is_empty() && own != call.request.name() {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut wish = call.request.options.delete.clone();
    if let Some(options) = eviction
        .get("deleteOptions")
        .filter(|options| !options.is_null())
    {
        wish = parse_delete_body(options, &wish)?;
    }
    verbs::delete_as(call, &wish).await?;
    Ok(Answer::Value(StatusCode::CREATED, done(201)))
}

fn done(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}

/// Leaves only those changes that a subresource of a pod may make.
pub(crate) fn isolate(part: &str, new: &mut Value, old: &Value) {
    let wanted = std::mem::replace(new, old.clone());
    let spec = child_mut(as_map(new), "spec");
    match part {
        "ephemeralcontainers" => {
            if let Some(list) = at(&wanted, &["spec", "ephemeralContainers"]) {
                spec.insert("ephemeralContainers".into(), list.clone());
            }
        }
        "resize" => {
            for list in ["containers", "initContainers"] {
                resize(spec.get_mut(list), at(&wanted, &["spec", list]));
            }
        }
        // A binding was made here and is not to be taken apart.
        _ => *new = wanted,
    }
}

fn resize(own: Option<&mut Value>, wanted: Option<&Value>) {
    let (Some(own), Some(wanted)) = (
        own.and_then(Value::as_array_mut),
        wanted.and_then(Value::as_array),
    ) else {
        return;
    };
    for container in own {
        let same = wanted.iter().find(|one| one["name"] == container["name"]);
        for key in ["resources", "resizePolicy"] {
            if let Some(value) = same.and_then(|same| same.get(key)) {
                container[key] = value.clone();
            }
        }
    }
}
