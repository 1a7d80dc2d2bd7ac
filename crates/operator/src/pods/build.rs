//! How a pod is made from a pool's template.
//!
//! The template is kept as it was written. Added are labels, the owner, and the agent: it is put
//! into the executor's file system from outside and starts the container's own command, so that
//! tasks run in the user's container, in the user's image.

use kube::api::{ApiResource, DynamicObject};
use sandlot_access::{
    AGENT_KEY, AGENT_KEY_ANNOTATION, OPERATOR_KEY_ANNOTATION, OPERATOR_KEYS, PrivateKey, PublicKey,
};
use sandlot_api::arl::{PodTemplate, names};
use serde_json::{Map, Value, json};

use crate::settings::{Agent, Delivery};

/// Where the agent is found inside the container.
const AGENT_DIR: &str = "/.sandlot";
const AGENT_VOLUME: &str = "sandlot-agent";
const INSTALL: &str = "sandlot-install";
/// Where the agent remembers what it has run. A volume outlives a restart of the container, so
/// that a step which was running then is known to be lost instead of being run again.
const STATE_MOUNT: &str = "/.sandlot-state";
/// A folder of the agent's own in it: a volume's root belongs to whoever the kubelet says.
const STATE_DIR: &str = "/.sandlot-state/agent";
const STATE_VOLUME: &str = "sandlot-state";
/// Stands for the image's own command; Sandlot's node puts that in its place.
const IMAGE_COMMAND: &str = "$(SANDLOT_IMAGE_COMMAND)";

/// Whose pod it will be.
pub(crate) struct Owner<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pool: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) template_revision: &'a str,
    pub(crate) keys: Option<Keys>,
}

/// What makes a pod's agent and the operator known to each other.
#[derive(Clone)]
pub(crate) struct Keys {
    operator: PublicKey,
    agent: PrivateKey,
    agent_public: PublicKey,
}

impl Keys {
    /// New ones for one pod.
    pub(crate) fn new(operator: &PrivateKey) -> std::io::Result<Self> {
        let agent = PrivateKey::generate()?;
        let public = |key: &PrivateKey| key.public().map_err(std::io::Error::other);
        Ok(Self {
            operator: public(operator)?,
            agent_public: public(&agent)?,
            agent,
        })
    }

    /// What the agent is told of them, as variables.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        [
            (OPERATOR_KEYS, self.operator.to_string()),
            (AGENT_KEY, self.agent.reveal()),
        ]
    }

    /// What the pod says of them, as annotations.
    pub(crate) fn annotations(&self) -> [(String, String); 2] {
        [
            (
                AGENT_KEY_ANNOTATION.to_owned(),
                self.agent_public.to_string(),
            ),
            (
                OPERATOR_KEY_ANNOTATION.to_owned(),
                self.operator.to_string(),
            ),
        ]
    }
}

/// The container that tasks run in: the one named `executor`, else the first that is not the
/// sidecar of older clients.
fn executor(template: &PodTemplate) -> Option<&str> {
    let named = |wanted: &str| template.container_names().find(|name| *name == wanted);
    named("executor")
        .or_else(|| template.container_names().find(|name| *name != "sidecar"))
        .or_else(|| named("sidecar"))
}

/// A name for a new pod, as Kubernetes itself would think it up: the pool's and five characters,
/// none of which makes a word.
pub(crate) fn fresh_name(pool: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Names of objects are ASCII, so a cut cannot split a character.
    let mut name = format!("{}-", &pool[..pool.len().min(57)]);
    let letter = || char::from(LETTERS[rand::random_range(..LETTERS.len())]);
    name.extend(std::iter::repeat_with(letter).take(5));
    name
}

/// Makes a pod from a template.
pub(crate) fn build(
    template: &PodTemplate,
    name: &str,
    owner: &Owner<'_>,
    agent: &Agent,
) -> DynamicObject {
    let executor = executor(template).unwrap_or_default().to_owned();
    let mut data = template.0.clone();
    let written = data.remove("metadata");
    let spec = object(data.entry("spec").or_insert_with(|| json!({})));
    drop_sidecar(spec, &executor);
    deliver(spec, agent);
    for container in list(spec, "containers") {
        let container = object(container);
        if container.get("name").and_then(Value::as_str) == Some(executor.as_str()) {
            wrap(container, agent, owner.keys.as_ref());
        }
    }
    // What runs in a sandbox is not trusted with the cluster.
    spec.entry("automountServiceAccountToken")
        .or_insert(Value::Bool(false));

    let mut pod = DynamicObject::new(
        "",
        &ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&()),
    );
    pod.metadata = written
        .and_then(|written| serde_json::from_value(written).ok())
        .unwrap_or_default();
    let meta = &mut pod.metadata;
    meta.name = Some(name.to_owned());
    meta.generate_name = None;
    meta.namespace = Some(owner.namespace.to_owned());
    let pool = names::label_value(owner.pool);
    meta.labels.get_or_insert_default().extend([
        (names::POOL.to_owned(), pool.clone()),
        (names::POOL_SHORT.to_owned(), pool),
        (names::POD_STATE.to_owned(), "ready".to_owned()),
        (names::STATUS.to_owned(), "idle".to_owned()),
    ]);
    if let Some(keys) = &owner.keys {
        meta.annotations.get_or_insert_default().extend([
            (
                AGENT_KEY_ANNOTATION.to_owned(),
                keys.agent_public.to_string(),
            ),
            (
                OPERATOR_KEY_ANNOTATION.to_owned(),
                keys.operator.to_string(),
            ),
        ]);
    }
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(
        names::TEMPLATE.to_owned(),
        owner.template_revision.to_owned(),
    );
    if matches!(agent.delivery, Delivery::ImageVolume { .. }) {
        // Sandlot's node keeps it up to date; nobody else would.
        annotations.insert(names::VISITORS.to_owned(), "0".to_owned());
    }
    meta.owner_references =
        serde_json::from_value(json!([pool_reference(owner.pool, owner.uid, true)])).ok();
    pod.data = Value::Object(data);
    pod
}

/// The pool as the owner of a pod.
pub(crate) fn pool_reference(pool: &str, uid: &str, controls: bool) -> Value {
    json!({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "WarmPool", "name": pool, "uid": uid,
        "controller": controls, "blockOwnerDeletion": false,
    })
}

/// Older clients declare a sidecar of their own; the agent takes its place.
fn drop_sidecar(spec: &mut Map<String, Value>, executor: &str) {
    list(spec, "containers").retain(|container| {
        let name = container.get("name").and_then(Value::as_str);
        name == Some(executor) || name != Some("sidecar")
    });
}

/// Brings the agent's binary into the pod, and a place for its records.
fn deliver(spec: &mut Map<String, Value>, agent: &Agent) {
    list(spec, "volumes").push(json!({ "name": STATE_VOLUME, "emptyDir": {} }));
    match &agent.delivery {
        Delivery::ImageVolume { image } => {
            list(spec, "volumes").push(json!({
                "name": AGENT_VOLUME, "image": { "reference": image, "pullPolicy": "IfNotPresent" },
            }));
        }
        Delivery::InitContainer { image } => {
            list(spec, "volumes").push(json!({ "name": AGENT_VOLUME, "emptyDir": {} }));
            list(spec, "initContainers").insert(
                0,
                json!({
                    "name": INSTALL, "image": image, "imagePullPolicy": "IfNotPresent",
                    "command": ["/sandlot-agent", "install", AGENT_DIR],
                    "volumeMounts": [{ "name": AGENT_VOLUME, "mountPath": AGENT_DIR }],
                    "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                }),
            );
        }
    }
}

/// Lets the agent start the container's own command.
fn wrap(container: &mut Map<String, Value>, agent: &Agent, keys: Option<&Keys>) {
    let mut own = Vec::new();
    let node_knows_images = matches!(agent.delivery, Delivery::ImageVolume { .. });
    if node_knows_images && is_empty_list(container.get("command")) {
        own.push(json!(IMAGE_COMMAND));
    }
    for part in ["command", "args"] {
        if let Some(Value::Array(words)) = container.remove(part) {
            own.extend(words);
        }
    }
    let mut command = vec![json!(format!("{AGENT_DIR}/sandlot-agent"))];
    command.extend((!own.is_empty()).then(|| json!("run")));
    let port = agent.port.to_string();
    command.extend(["--workspace", &agent.work_dir, "--grpc-port", &port].map(Value::from));
    let mut variables = vec![("SANDLOT_STATE_DIR", STATE_DIR.to_owned())];
    match keys {
        // Who may call the agent, and what its callers know it by.
        Some(keys) => variables.extend([
            (OPERATOR_KEYS, keys.operator.to_string()),
            (AGENT_KEY, keys.agent.reveal()),
        ]),
        None => command.push(json!("--plain")),
    }
    tell(container, variables);
    // Without a command of its own a container would run its image's, which a cluster's nodes
    // tell nobody: there the agent alone keeps it alive, as admission says.
    if own.is_empty() {
        command.extend(["--http-port", "0"].map(Value::from));
    } else {
        command.push(json!("--"));
        command.append(&mut own);
    }
    container.insert("command".to_owned(), Value::Array(command));
    list(container, "volumeMounts").extend([
        json!({ "name": AGENT_VOLUME, "mountPath": AGENT_DIR, "readOnly": true }),
        json!({ "name": STATE_VOLUME, "mountPath": STATE_MOUNT }),
    ]);
}

fn is_empty_list(value: Option<&Value>) -> bool {
    value.and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// Sets the agent's own variables, whatever a template says about them.
fn tell(container: &mut Map<String, Value>, variables: Vec<(&str, String)>) {
    let env = list(container, "env");
    env.retain(|written| variables.iter().all(|(name, _)| written["name"] != *name));
    let told = variables.into_iter();
    env.extend(told.map(|(name, value)| json!({ "name": name, "value": value })));
}

/// The value as an object; whatever else stood there gives way, and the API will say so.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it has just been made one"),
    }
}

fn list<'a>(map: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
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

    fn agent(delivery: Delivery) -> Agent {
        Agent {
            delivery,
            work_dir: "/workspace".into(),
            port: 50051,
            proof: crate::Proof::Nothing,
        }
    }

    fn pod_of(template: Value, delivery: Delivery) -> Value {
        let template: PodTemplate = serde_json::from_value(template).unwrap();
        let owner = Owner {
            namespace: "default",
            pool: "python-pool",
            uid: "u-1",
            template_revision: "r1",
            keys: None,
        };
        serde_json::to_value(build(
            &template,
            "python-pool-abcde",
            &owner,
            &agent(delivery),
        ))
        .unwrap()
    }

    fn by_volume() -> Delivery {
        Delivery::ImageVolume {
            image: "sandlot/agent".into(),
        }
    }

    fn documents_template() -> Value {
        json!({
            "metadata": { "labels": { "team": "a" }, "annotations": { "note": "kept" } },
            "spec": {
                "containers": [{ "name": "executor", "image": "python:3.9-slim", "command": ["sleep", "infinity"],
                    "volumeMounts": [{ "name": "workspace", "mountPath": "/workspace" }] }],
                "volumes": [{ "name": "workspace", "emptyDir": {} }],
                "fieldOfTheFuture": { "kept": true }
            }
        })
    }

    #[test]
    fn a_pod_carries_both_spellings_of_the_labels_and_what_the_template_wrote() {
        let pod = pod_of(documents_template(), by_volume());
        let labels = &pod["metadata"]["labels"];
        for (label, value) in [
            ("arl.infra.io/warmpool", "python-pool"),
            ("arl.infra.io/pool", "python-pool"),
            ("arl.infra.io/pod-state", "ready"),
            ("arl.infra.io/status", "idle"),
            ("team", "a"),
        ] {
            assert_eq!(labels[label], json!(value), "{label}");
        }
        assert_eq!(pod["metadata"]["annotations"]["note"], json!("kept"));
        assert_eq!(pod["metadata"]["name"], json!("python-pool-abcde"));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], json!("u-1"));
        assert_eq!(pod["spec"]["fieldOfTheFuture"], json!({ "kept": true }));
        assert_eq!(pod["spec"]["automountServiceAccountToken"], json!(false));
    }

    #[test]
    fn the_agent_starts_the_containers_own_command() {
        let pod = pod_of(documents_template(), by_volume());
        let executor = &pod["spec"]["containers"][0];
        let command: Vec<_> = executor["command"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        assert_eq!(command[..2], ["/.sandlot/sandlot-agent", "run"]);
        assert_eq!(command[command.len() - 3..], ["--", "sleep", "infinity"]);
        assert_eq!(executor["volumeMounts"][1]["mountPath"], json!("/.sandlot"));
        assert_eq!(
            pod["spec"]["volumes"][2]["image"]["reference"],
            json!("sandlot/agent")
        );
    }

    #[test]
    fn what_the_agent_has_run_outlives_a_restart_of_its_container() {
        let pod = pod_of(documents_template(), by_volume());
        let executor = &pod["spec"]["containers"][0];
        assert_eq!(
            pod["spec"]["volumes"][1],
            json!({ "name": "sandlot-state", "emptyDir": {} })
        );
        let mount = json!({ "name": "sandlot-state", "mountPath": "/.sandlot-state" });
        assert_eq!(executor["volumeMounts"][2], mount);
        let state = json!({ "name": "SANDLOT_STATE_DIR", "value": "/.sandlot-state/agent" });
        assert_eq!(executor["env"], json!([state]));
    }

    #[test]
    fn each_pod_has_a_key_of_its_own_and_its_agent_knows_the_operators() {
        let operator = PrivateKey::generate().unwrap();
        let template: PodTemplate = serde_json::from_value(documents_template()).unwrap();
        let pods = [(); 2].map(|()| {
            let keys = Some(Keys::new(&operator).unwrap());
            let owner = Owner {
                namespace: "default",
                pool: "p",
                uid: "u",
                template_revision: "r",
                keys,
            };
            serde_json::to_value(build(&template, "p-1", &owner, &agent(by_volume()))).unwrap()
        });
        let public = |pod: &Value| {
            pod["metadata"]["annotations"][AGENT_KEY_ANNOTATION]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_ne!(public(&pods[0]), public(&pods[1]));
        assert_eq!(
            pods[0]["metadata"]["annotations"][OPERATOR_KEY_ANNOTATION],
            json!(operator.public().unwrap().to_string())
        );
        let executor = &pods[0]["spec"]["containers"][0];
        let env = executor["env"].as_array().unwrap();
        let variable = |name: &str| {
            env.iter().find(|v| v["name"] == name).unwrap()["value"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            variable(OPERATOR_KEYS),
            operator.public().unwrap().to_string()
        );
        let own: PrivateKey = variable(AGENT_KEY).parse().unwrap();
        assert_eq!(own.public().unwrap().to_string(), public(&pods[0]));
        assert!(
            !executor["command"]
                .as_array()
                .unwrap()
                .contains(&json!("--plain"))
        );
    }

    #[test]
    fn on_a_cluster_an_init_container_brings_the_agent() {
        let pod = pod_of(
            documents_template(),
            Delivery::InitContainer {
                image: "agent:1".into(),
            },
        );
        assert_eq!(pod["spec"]["initContainers"][0]["image"], json!("agent:1"));
        assert_eq!(
            pod["spec"]["volumes"][2],
            json!({ "name": "sandlot-agent", "emptyDir": {} })
        );
    }

    #[test]
    fn a_sidecar_of_an_older_client_gives_way_to_the_agent() {
        let template = json!({ "spec": { "containers": [
            { "name": "sidecar", "image": "arl-sidecar" }, { "name": "main", "image": "busybox", "args": ["x"] } ] } });
        let pod = pod_of(template, by_volume());
        let containers = pod["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1);
        assert_eq!(containers[0]["name"], json!("main"));
        assert!(containers[0].get("args").is_none());
    }

    #[test]
    fn a_container_without_a_command_is_kept_alive_by_the_agent_alone_on_a_cluster() {
        let template = json!({ "spec": { "containers": [{ "name": "executor", "image": "i" }] } });
        let by_container = Delivery::InitContainer {
            image: "agent:1".into(),
        };
        let pod = pod_of(template, by_container);
        let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
        assert!(!command.contains(&json!("run")) && !command.contains(&json!("--")));
    }

    #[test]
    fn where_the_node_knows_images_a_container_without_a_command_runs_its_images() {
        for (more, expected) in [
            (json!({}), &["--", "$(SANDLOT_IMAGE_COMMAND)"][..]),
            (
                json!({ "args": ["x"] }),
                &["--", "$(SANDLOT_IMAGE_COMMAND)", "x"],
            ),
        ] {
            let mut container = json!({ "name": "executor", "image": "i" });
            let fields = container.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            let template = json!({ "spec": { "containers": [container] } });
            let pod = pod_of(template, by_volume());
            let command = pod["spec"]["containers"][0]["command"].as_array().unwrap();
            assert!(
                command.ends_with(&expected.iter().map(|word| json!(word)).collect::<Vec<_>>())
            );
        }
    }

    #[test]
    fn a_template_that_is_no_pod_is_left_for_the_api_to_refuse() {
        let pod = pod_of(json!({ "spec": { "containers": "oops" } }), by_volume());
        assert_eq!(pod["spec"]["containers"], json!([]));
    }
}
