//! WarmPool: pods kept ready before anybody asks for them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::PodTemplate;

/// How many pods of which shape to keep ready.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "arl.infra.io",
    version = "v1alpha1",
    kind = "WarmPool",
    plural = "warmpools",
    singular = "warmpool",
    shortname = "wp",
    category = "arl",
    namespaced,
    status = "WarmPoolStatus",
    derive = "PartialEq",
    doc = "A pool of pods kept ready, to be claimed by sandboxes in milliseconds.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63")
        .message("the pool's name becomes part of pod names and labels: use at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit"),
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.readyReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas", description = "Idle pods to keep ready"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Idle pods that are ready"),
    printcolumn(name = "Allocated", type_ = "integer", json_path = ".status.allocatedReplicas", description = "Pods in use by sandboxes"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WarmPoolSpec {
    /// How many idle pods to keep ready, whatever number is in use.
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// The pods to make.
    pub template: PodTemplate,
    /// What happens to a pod that a sandbox gives back: `Delete` it and make a new one (the
    /// default), or `Reset` it: end its processes, empty its workspace, check, and reuse it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recycle: Option<Recycle>,
}

/// What happens to a pod that a sandbox gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Recycle {
    /// It is deleted and a fresh one takes its place.
    #[default]
    Delete,
    /// Its processes are ended and its workspace is emptied; it is deleted if that fails.
    Reset,
}

/// What is observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmPoolStatus {
    /// Idle pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Idle pods that are ready (the same number under the documents' name).
    #[serde(default)]
    pub ready: i32,
    /// Pods in use by sandboxes.
    #[serde(default)]
    pub allocated_replicas: i32,
    /// Pods in use by sandboxes (the same number under the documents' name).
    #[serde(default)]
    pub allocated: i32,
    /// All pods of the pool.
    #[serde(default)]
    pub total: i32,
    /// Where the pool stands, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PoolPhase>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the wanted number of idle pods is ready. `PodsFailing`: pods do not come up, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// Where a pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PoolPhase {
    /// No pod is ready yet.
    Pending,
    /// As many idle pods are ready as wanted.
    Ready,
    /// Pods are being made or removed.
    Scaling,
}

/// Conditions merge by type, so that two writers do not overwrite each other's.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Vec<Condition>>();
    schema.insert("nullable".into(), Value::Bool(true));
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert(
        "x-kubernetes-list-map-keys".into(),
        Value::from(vec!["type"]),
    );
    schema
}
