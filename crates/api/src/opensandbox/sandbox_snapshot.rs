//! SandboxSnapshot: what a sandbox's containers wrote, saved as images.

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{Condition, condition};

/// Which sandbox to save.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
)]
#[kube(
    group = "sandbox.opensandbox.io",
    version = "v1alpha1",
    kind = "SandboxSnapshot",
    plural = "sandboxsnapshots",
    singular = "sandboxsnapshot",
    shortname = "sbxsnap",
    category = "opensandbox",
    namespaced,
    status = "SandboxSnapshotStatus",
    derive = "PartialEq",
    doc = "What a sandbox's containers wrote, saved as images.",
    printcolumn(name = "PHASE", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "SANDBOX", type_ = "string", json_path = ".spec.sandboxName"),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSnapshotSpec {
    /// The BatchSandbox, in the same namespace.
    #[schemars(length(min = 1))]
    pub sandbox_name: String,
}

/// Where a snapshot stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SandboxSnapshotStatus {
    /// In a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SnapshotPhase>,
    /// The images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<SavedContainer>,
    /// What holds of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
    /// The pod that was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_pod_name: Option<String>,
    /// The node it was on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_node_name: Option<String>,
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The image of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SavedContainer {
    /// The container.
    pub container_name: String,
    /// Its image.
    pub image_uri: String,
    /// The image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
}

/// Where a snapshot stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SnapshotPhase {
    /// It has not begun.
    Pending,
    /// The containers are being saved.
    Committing,
    /// It is there.
    Succeed,
    /// It could not be made.
    Failed,
}

fn conditions(generator: &mut SchemaGenerator) -> Schema {
    condition::schema(generator, &["Ready", "Failed"])
}
