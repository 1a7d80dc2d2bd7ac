//! How a batch that was paused gets a template of its own, which starts from what was saved.

use kube::api::DynamicObject;
use sandlot_access::{AGENT_KEY, OPERATOR_KEYS};
use sandlot_api::opensandbox::{BatchSandboxSpec, names};
use serde_json::{Value, json};

use super::{
    build::{list, shape},
    index::{BatchEntry, SnapshotEntry},
};

/// Whether a batch's first pod would start from what was saved of it.
pub(crate) fn starts_from(batch: &BatchEntry, snapshot: &SnapshotEntry) -> bool {
    let Ok(whole) = shape(&batch.spec, 0) else {
        return false;
    };
    let containers = whole["spec"]["containers"].as_array();
    let mut containers = containers.into_iter().flatten();
    containers.all(|container| {
        let saved = container["name"]
            .as_str()
            .and_then(|name| snapshot.image_of(name));
        saved.is_none_or(|image| container["image"] == image)
    })
}

/// The change of a batch that makes its first pod start from what was saved of it: a template
/// that its first patch is part of, since a patch could name another image.
pub(crate) fn restored(
    batch: &BatchEntry,
    snapshot: &SnapshotEntry,
    pull_secret: Option<&str>,
) -> Result<Value, String> {
    let mut whole = shape(&batch.spec, 0)?;
    let Value::Object(spec) = &mut whole["spec"] else {
        return Err("the template has no spec".to_owned());
    };
    for container in list(spec, "containers") {
        let saved = container["name"]
            .as_str()
            .and_then(|name| snapshot.image_of(name));
        if let Some(image) = saved {
            container["image"] = json!(image);
            // Its name is its own: what is here under it is what was saved.
            container["imagePullPolicy"] = json!("IfNotPresent");
        }
    }
    if let Some(secret) = pull_secret {
        let secrets = list(spec, "imagePullSecrets");
        let secret = json!({ "name": secret });
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    Ok(new_template(
        &batch.resource_version,
        &whole,
        without_first_patch(&batch.spec),
    ))
}

/// A pod's own shape as a template: without what makes it this very pod.
pub(crate) fn template_of(pod: &DynamicObject) -> Value {
    let ours = [
        names::POOL,
        names::POOL_REVISION,
        names::BATCH,
        names::POD_INDEX,
    ];
    let foreign = |name: &String| !name.starts_with(names::GROUP) && !name.contains("sandlot");
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.retain(|name, _| !ours.contains(&name.as_str()));
    let mut notes = pod.metadata.annotations.clone().unwrap_or_default();
    notes.retain(|name, _| foreign(name));
    let mut spec = pod.data["spec"].clone();
    if let Value::Object(spec) = &mut spec {
        spec.remove("nodeName");
        for container in list(spec, "containers") {
            // What this pod's executor proved itself with is nobody else's.
            if let Some(Value::Array(env)) = container.get_mut("env") {
                env.retain(|variable| {
                    variable["name"] != AGENT_KEY && variable["name"] != OPERATOR_KEYS
                });
            }
        }
    }
    json!({ "metadata": { "labels": labels, "annotations": notes }, "spec": spec })
}

/// The change of a batch that gives it a template of its own, and takes it out of its pool.
pub(crate) fn out_of_pool(version: &str, template: &Value, patches: Option<Value>) -> Value {
    let mut patch = new_template(version, template, patches);
    if let Value::Array(steps) = &mut patch {
        steps.push(json!({ "op": "remove", "path": "/spec/poolRef" }));
    }
    patch
}

/// A JSON patch: a merge would leave parts of the old template in the new one.
fn new_template(version: &str, template: &Value, patches: Option<Value>) -> Value {
    let mut steps = vec![
        json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": version }),
        json!({ "op": "add", "path": "/spec/template", "value": template }),
    ];
    if let Some(patches) = patches {
        steps.push(json!({ "op": "add", "path": "/spec/shardPatches", "value": patches }));
    }
    Value::Array(steps)
}

/// A batch's patches with an empty one for the first pod; nothing where that has none.
pub(crate) fn without_first_patch(spec: &BatchSandboxSpec) -> Option<Value> {
    let mut patches = spec.shard_patches.clone()?;
    let first = patches.first_mut().filter(|first| !first.is_empty())?;
    first.clear();
    Some(json!(patches))
}

#[cfg(test)]
mod tests {
    use kube::api::ApiResource;

    use super::*;

    #[test]
    fn a_pods_shape_as_a_template_tells_nothing_of_that_very_pod() {
        let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        let mut pod = DynamicObject::new("p-1", &kind);
        pod.metadata.labels =
            serde_json::from_value(json!({ names::POOL: "p", "app": "x" })).unwrap();
        pod.metadata.annotations =
            serde_json::from_value(json!({ names::TASK_EXECUTOR: "sandlot", "note": "y" }))
                .unwrap();
        pod.data = json!({ "spec": { "nodeName": "n", "containers": [{ "name": "c", "env": [
            { "name": AGENT_KEY, "value": "secret" }, { "name": "A", "value": "1" }] }] } });
        assert_eq!(
            template_of(&pod),
            json!({ "metadata": { "labels": { "app": "x" }, "annotations": { "note": "y" } },
                "spec": { "containers": [{ "name": "c", "env": [{ "name": "A", "value": "1" }] }] } })
        );
    }

    #[test]
    fn a_first_patch_that_is_part_of_the_template_is_not_applied_again() {
        let spec = |patches: Value| -> BatchSandboxSpec {
            serde_json::from_value(json!({ "shardPatches": patches })).unwrap()
        };
        let patches = json!([{ "spec": { "hostname": "a" } }, { "spec": { "hostname": "b" } }]);
        assert_eq!(
            without_first_patch(&spec(patches)),
            Some(json!([{}, { "spec": { "hostname": "b" } }]))
        );
        assert_eq!(without_first_patch(&spec(json!([{}]))), None);
        assert_eq!(without_first_patch(&spec(json!([]))), None);
    }
}
