//! Pool: pods kept ready between two bounds, to be given to batches.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PodTemplate;

/// How many pods of which shape to keep.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "sandbox.opensandbox.io",
    version = "v1alpha1",
    kind = "Pool",
    plural = "pools",
    singular = "pool",
    category = "opensandbox",
    namespaced,
    status = "PoolStatus",
    derive = "PartialEq",
    doc = "Pods kept ready, to be given to batches of sandboxes at once.",
    printcolumn(
        name = "TOTAL",
        type_ = "integer",
        json_path = ".status.total",
        description = "The number of all nodes in pool."
    ),
    printcolumn(
        name = "ALLOCATED",
        type_ = "integer",
        json_path = ".status.allocated",
        description = "The number of allocated nodes in pool."
    ),
    printcolumn(
        name = "AVAILABLE",
        type_ = "integer",
        json_path = ".status.available",
        description = "The number of available nodes in pool."
    ),
    printcolumn(
        name = "UPDATED",
        type_ = "integer",
        json_path = ".status.updated",
        description = "Pods made from the present template."
    ),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PoolSpec {
    /// The pods to make.
    #[serde(default)]
    #[schemars(schema_with = "super::batch_sandbox::template_schema")]
    pub template: Option<PodTemplate>,
    /// How many to keep.
    pub capacity_spec: CapacitySpec,
    /// How fast the pool may grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_strategy: Option<ScaleStrategy>,
    /// How fast a new template is rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategy>,
    /// What happens to a pod that is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recycle_strategy: Option<RecycleStrategy>,
}

/// How many pods to keep: idle ones between two bounds, within two bounds for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapacitySpec {
    /// The most idle pods.
    #[schemars(range(min = 0))]
    pub buffer_max: i32,
    /// The fewest idle pods.
    #[schemars(range(min = 0))]
    pub buffer_min: i32,
    /// The most pods in all.
    #[schemars(range(min = 0))]
    pub pool_max: i32,
    /// The fewest pods in all.
    #[schemars(range(min = 0))]
    pub pool_min: i32,
}

/// How fast a pool may grow.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleStrategy {
    /// How many pods may be starting at once, as a number or a share; 25% if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}

/// How fast a new template is rolled out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// How many ready pods may be missing meanwhile, as a number or a share; 25% if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}

/// What happens to a pod that is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct RecycleStrategy {
    /// `Delete`, `Restart` or `Noop`.
    #[serde(rename = "type", default)]
    pub kind: RecycleType,
}

/// Ways to take a pod back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum RecycleType {
    /// It is deleted and a fresh one takes its place.
    #[default]
    Delete,
    /// Its containers are restarted; what they wrote into volumes stays.
    Restart,
    /// It is given out again as it is.
    Noop,
}

/// What is observed of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolStatus {
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The revision of the present template.
    pub revision: String,
    /// All pods.
    pub total: i32,
    /// Pods given to batches.
    pub allocated: i32,
    /// Pods that can be given out now.
    pub available: i32,
    /// Pods made from the present template.
    pub updated: i32,
}
