//! BatchSandbox: one sandbox or hundreds, from a pool or made for it, as one object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Condition, condition};
use crate::PodTemplate;

/// How many sandboxes, from where, and what runs in them.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "sandbox.opensandbox.io",
    version = "v1alpha1",
    kind = "BatchSandbox",
    plural = "batchsandboxes",
    singular = "batchsandbox",
    shortname = "bsbx",
    category = "opensandbox",
    namespaced,
    status = "BatchSandboxStatus",
    derive = "PartialEq",
    doc = "One sandbox or hundreds of them, delivered together.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "DESIRED",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "The desired number of pods."
    ),
    printcolumn(
        name = "TOTAL",
        type_ = "integer",
        json_path = ".status.replicas",
        description = "The number of currently all pods."
    ),
    printcolumn(
        name = "ALLOCATED",
        type_ = "integer",
        json_path = ".status.allocated",
        description = "The number of currently all allocated pods."
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.ready",
        description = "The number of currently all ready pods."
    ),
    printcolumn(
        name = "TASK_RUNNING",
        type_ = "integer",
        priority = 1,
        json_path = ".status.taskRunning",
        description = "The number of currently all running tasks."
    ),
    printcolumn(
        name = "TASK_SUCCEED",
        type_ = "integer",
        priority = 1,
        json_path = ".status.taskSucceed",
        description = "The number of currently all succeed tasks."
    ),
    printcolumn(
        name = "TASK_FAILED",
        type_ = "integer",
        priority = 1,
        json_path = ".status.taskFailed",
        description = "The number of currently all failed tasks."
    ),
    printcolumn(
        name = "TASK_UNKNOWN",
        type_ = "integer",
        priority = 1,
        json_path = ".status.taskUnknown",
        description = "The number of currently all unknown tasks."
    ),
    printcolumn(
        name = "EXPIRE",
        type_ = "string",
        json_path = ".spec.expireTime",
        description = "sandbox expire time"
    ),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct BatchSandboxSpec {
    /// How many sandboxes.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = super::names::MOST_REPLICAS))]
    pub replicas: i32,
    /// The pool to take them from; `*` leaves the choice to the operator. Empty: they are made
    /// from `template`.
    #[serde(
        default,
        deserialize_with = "or_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub pool_ref: String,
    /// The pods to make where no pool is named.
    #[serde(default)]
    #[schemars(schema_with = "template_schema")]
    pub template: Option<PodTemplate>,
    /// The i-th is a strategic merge patch on the i-th pod that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "patches_schema")]
    pub shard_patches: Option<Vec<Map<String, Value>>>,
    /// When the sandboxes are removed, whatever they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<Time>,
    /// What runs in each sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub task_template: Option<Map<String, Value>>,
    /// The i-th is a strategic merge patch on the i-th sandbox's task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "patches_schema")]
    pub shard_task_patches: Option<Vec<Map<String, Value>>>,
    /// What happens to a sandbox whose task has ended: `Retain` keeps it, `Release` gives it back.
    #[serde(default, deserialize_with = "policy")]
    #[schemars(schema_with = "policy_schema")]
    pub task_resource_policy_when_completed: TaskResourcePolicy,
    /// `true` saves and stops the sandbox, `false` brings it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<bool>,
}

/// What happens to a sandbox whose task has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TaskResourcePolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is given back.
    Release,
}

/// What is observed of a batch.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchSandboxStatus {
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods there are.
    pub replicas: i32,
    /// Pods that have a node or an address.
    pub allocated: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Tasks that run.
    pub task_running: i32,
    /// Tasks that succeeded.
    pub task_succeed: i32,
    /// Tasks that failed.
    pub task_failed: i32,
    /// Tasks without a pod.
    pub task_pending: i32,
    /// Tasks of which nothing is known.
    pub task_unknown: i32,
    /// Where the batch stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BatchPhase>,
    /// The generation whose pause or resume has been seen to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_observed_generation: Option<i64>,
    /// The label selector of the pods that the batch made, for `kubectl scale` and its kin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// What holds of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum BatchPhase {
    /// Not all sandboxes are ready.
    Pending,
    /// All are ready.
    Succeed,
    /// It is being saved and stopped.
    Pausing,
    /// It is saved and stopped.
    Paused,
    /// It is being brought back.
    Resuming,
    /// Something keeps its sandboxes from being ready.
    Failed,
}

fn one() -> i32 {
    1
}

fn or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Any word but `Release` keeps the sandbox: that loses nothing.
fn policy<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<TaskResourcePolicy, D::Error> {
    let word = Option::<String>::deserialize(deserializer)?;
    Ok(match word.as_deref() {
        Some("Release") => TaskResourcePolicy::Release,
        _ => TaskResourcePolicy::Retain,
    })
}

fn policy_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "default": "Retain" })
}

/// A pod template that may be absent or null, and is not looked into.
pub(super) fn template_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

fn patches_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "nullable": true,
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    })
}

fn conditions(generator: &mut SchemaGenerator) -> Schema {
    condition::schema(
        generator,
        &[
            "Ready",
            "Progressing",
            "Paused",
            "PauseFailed",
            "ResumeFailed",
            "PodFailed",
        ],
    )
}
