//! How pods of pools and batches are made from their templates.
//!
//! A template is kept as it was written, with one exception: a container named `task-executor`
//! becomes our own executor, which knows whose calls it takes. A template that brings an
//! executor of its own and says so keeps it.

use kube::api::{ApiResource, DynamicObject};
use sandlot_api::{
    PodTemplate,
    opensandbox::{BatchSandboxSpec, names},
};
use sandlot_objects::{builtin, patch::strategic, shape::Shape};
use serde_json::{Map, Value, json};

use super::index::{BatchEntry, PoolEntry};
use crate::{
    index::{Key, Uid},
    pods::Keys,
    settings::{Agent, Delivery},
};

/// Where the executor keeps its records; a volume outlives a restart of the container.
const RECORDS: &str = "/var/lib/sandbox";
const RECORDS_VOLUME: &str = "sandlot-tasks";
/// The executor in the agent's image, which goes by its name.
const EXECUTOR: &str = "/task-executor";

/// A pod for a pool.
pub(crate) fn for_pool(
    key: &Key,
    pool: &PoolEntry,
    name: &str,
    keys: Option<Keys>,
    agent: &Agent,
) -> DynamicObject {
    let mut whole = pod_of(pool.spec.template.as_ref());
    let labels = [
        (names::POOL, key.name.to_string()),
        (names::POOL_REVISION, pool.template_revision.to_string()),
    ];
    let owner = json!({
        "apiVersion": names::API_VERSION, "kind": "Pool", "name": &*key.name, "uid": &*pool.uid,
        "controller": true, "blockOwnerDeletion": false,
    });
    finish(
        &mut whole,
        key,
        name,
        &labels,
        owner,
        (keys, pool.plain),
        agent,
    )
}

/// The pod of a batch at an index, with the patch that the batch has for it.
pub(crate) fn for_batch(
    key: &Key,
    batch: &BatchEntry,
    index: usize,
    keys: Option<Keys>,
    agent: &Agent,
) -> Result<DynamicObject, String> {
    let mut whole = shape(&batch.spec, index)?;
    let labels = [
        (names::BATCH, key.name.to_string()),
        (names::POD_INDEX, index.to_string()),
    ];
    let owner = batch_reference(key, &batch.uid);
    let name = BatchEntry::own_pod(key, index);
    Ok(finish(
        &mut whole,
        key,
        &name,
        &labels,
        owner,
        (keys, batch.plain),
        agent,
    ))
}

/// A batch's template with its patch for an index.
pub(super) fn shape(spec: &BatchSandboxSpec, index: usize) -> Result<Value, String> {
    let whole = pod_of(spec.template.as_ref());
    let patches = spec.shard_patches.as_ref();
    match patches.and_then(|patches| patches.get(index)) {
        Some(patch) => {
            patched(&whole, patch).map_err(|why| format!("shardPatches[{index}]: {why}"))
        }
        None => Ok(whole),
    }
}

/// A batch as the owner of a pod.
pub(crate) fn batch_reference(key: &Key, uid: &Uid) -> Value {
    json!({
        "apiVersion": names::API_VERSION, "kind": "BatchSandbox", "name": &*key.name, "uid": &**uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The pod's whole content, as the template has it.
fn pod_of(template: Option<&PodTemplate>) -> Value {
    let written = template
        .map(|template| template.0.clone())
        .unwrap_or_default();
    let part = |name: &str| match written.get(name) {
        Some(Value::Object(part)) => Value::Object(part.clone()),
        _ => json!({}),
    };
    json!({ "metadata": part("metadata"), "spec": part("spec") })
}

fn patched(pod: &Value, patch: &Map<String, Value>) -> Result<Value, String> {
    let shape = builtin::schema("io.k8s.api.core.v1.Pod").map_or_else(Shape::deduced, |schema| {
        Shape::object(schema, builtin::types())
    });
    strategic::apply(shape, pod, &Value::Object(patch.clone())).map_err(|error| error.to_string())
}

/// Gives a pod its name, labels and owner, which no template or patch can change, and our
/// executor where it asks for one.
fn finish(
    whole: &mut Value,
    key: &Key,
    name: &str,
    labels: &[(&str, String)],
    owner: Value,
    (keys, plain): (Option<Keys>, bool),
    agent: &Agent,
) -> DynamicObject {
    let mut notes = Vec::new();
    let mut say =
        |executor: &str| notes.push((names::TASK_EXECUTOR.to_owned(), executor.to_owned()));
    if let Value::Object(spec) = &mut whole["spec"] {
        if plain {
            say(names::PLAIN_EXECUTOR);
        } else if place_executor(spec, keys.as_ref(), agent) {
            say(names::OWN_EXECUTOR);
            notes.extend(keys.iter().flat_map(Keys::annotations));
        }
        // What runs in a sandbox is not trusted with the cluster.
        spec.entry("automountServiceAccountToken")
            .or_insert(Value::Bool(false));
    }
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let mut pod = DynamicObject::new(name, &kind);
    pod.metadata = serde_json::from_value(whole["metadata"].take()).unwrap_or_default();
    let meta = &mut pod.metadata;
    meta.name = Some(name.to_owned());
    meta.generate_name = None;
    meta.namespace = Some(key.namespace.to_string());
    let labels = labels
        .iter()
        .map(|(label, value)| ((*label).to_owned(), value.clone()));
    meta.labels.get_or_insert_default().extend(labels);
    if !notes.is_empty() {
        meta.annotations.get_or_insert_default().extend(notes);
    }
    meta.owner_references = serde_json::from_value(json!([owner])).ok();
    pod.data = json!({ "spec": whole["spec"].take() });
    pod
}

/// Puts our executor into the container that is to be one. Whether there is such a container.
fn place_executor(spec: &mut Map<String, Value>, keys: Option<&Keys>, agent: &Agent) -> bool {
    let Some(Value::Array(containers)) = spec.get_mut("containers") else {
        return false;
    };
    let named = |container: &&mut Value| container["name"] == names::EXECUTOR_CONTAINER;
    let Some(Value::Object(executor)) = containers.iter_mut().find(named) else {
        return false;
    };
    let (Delivery::ImageVolume { image } | Delivery::InitContainer { image }) = &agent.delivery;
    executor.insert("image".into(), json!(image));
    executor.insert("imagePullPolicy".into(), json!("IfNotPresent"));
    executor.insert("command".into(), json!([EXECUTOR]));
    executor.remove("args");
    let variables = keys
        .into_iter()
        .flat_map(Keys::variables)
        .collect::<Vec<_>>();
    let env = list(executor, "env");
    env.retain(|written| variables.iter().all(|(name, _)| written["name"] != *name));
    env.extend(
        variables
            .into_iter()
            .map(|(name, value)| json!({ "name": name, "value": value })),
    );
    let mounts = list(executor, "volumeMounts");
    if mounts.iter().all(|mount| mount["mountPath"] != RECORDS) {
        mounts.push(json!({ "name": RECORDS_VOLUME, "mountPath": RECORDS }));
        list(spec, "volumes").push(json!({ "name": RECORDS_VOLUME, "emptyDir": {} }));
    }
    true
}

/// A field that is a list, made one if it is not.
pub(super) fn list<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let value = map.entry(field).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it has just been made one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        let mut agent = crate::Settings::default().agent;
        agent.delivery = Delivery::ImageVolume {
            image: "sandlot-agent".to_owned(),
        };
        agent
    }

    fn sample() -> Value {
        json!({ "shareProcessNamespace": true, "containers": [
            { "name": "sandbox-container", "image": "ubuntu:latest", "command": ["sleep", "3600"] },
            { "name": "task-executor", "image": "<task-executor-image>:<tag>", "args": ["-x"],
              "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } } } ] })
    }

    #[test]
    fn the_documents_executor_becomes_ours_with_keys_and_a_place_for_its_records() {
        let operator = sandlot_access::PrivateKey::generate().unwrap();
        let keys = Keys::new(&operator).unwrap();
        let mut spec = sample();
        assert!(place_executor(
            spec.as_object_mut().unwrap(),
            Some(&keys),
            &agent()
        ));
        let executor = &spec["containers"][1];
        assert_eq!(executor["image"], "sandlot-agent");
        assert_eq!(executor["command"], json!(["/task-executor"]));
        assert_eq!(executor.get("args"), None);
        assert_eq!(executor["env"].as_array().unwrap().len(), 2);
        assert_eq!(executor["volumeMounts"][0]["mountPath"], RECORDS);
        assert_eq!(
            executor["securityContext"]["capabilities"]["add"][0],
            "SYS_PTRACE"
        );
        assert_eq!(spec["volumes"][0]["name"], RECORDS_VOLUME);
        assert_eq!(
            spec["containers"][0],
            sample()["containers"][0],
            "the sandbox is left alone"
        );
    }

    #[test]
    fn a_template_without_an_executor_is_left_as_it_is() {
        let mut spec = json!({ "containers": [{ "name": "main", "image": "nginx" }] });
        let before = spec.clone();
        assert!(!place_executor(
            spec.as_object_mut().unwrap(),
            None,
            &agent()
        ));
        assert_eq!(spec, before);
    }
}
