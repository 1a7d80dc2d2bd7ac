//! Robot: a machine that registered itself, and runs tasks.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeviceInfo, conditions, deployment::DeploymentState, names};

/// Which robot it is, and what may be asked of it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "robot.k8s4r.io",
    version = "v1alpha1",
    kind = "Robot",
    plural = "robots",
    singular = "robot",
    shortname = "rb",
    category = "k8s4r",
    namespaced,
    status = "RobotStatus",
    derive = "PartialEq",
    doc = "A robot that runs tasks.",
    printcolumn(name = "RobotID", type_ = "string", json_path = ".spec.robotId"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Hostname",
        type_ = "string",
        json_path = ".status.deviceInfo.hostname"
    ),
    printcolumn(
        name = "OS",
        type_ = "string",
        json_path = ".status.deviceInfo.platform.os"
    ),
    printcolumn(
        name = "CPUs",
        type_ = "integer",
        json_path = ".status.deviceInfo.cpu.logicalCores"
    ),
    printcolumn(
        name = "LastHeartbeat",
        type_ = "date",
        json_path = ".status.lastHeartbeatTime"
    ),
    printcolumn(
        name = "Cordoned",
        type_ = "boolean",
        json_path = ".spec.unschedulable",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RobotSpec {
    /// The robot's own name for itself: what it registers under, and the level of its topics.
    #[schemars(length(min = 1, max = 63))]
    pub robot_id: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What jobs select robots by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether it may work. Where robots are approved by hand, a new one waits for this to be
    /// true; false keeps any robot out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// Give it nothing new to do (cordon).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<bool>,
    /// Move what it does elsewhere (drain); it is given nothing new either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<bool>,
    /// What is wanted of the credential it logs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialWish>,
}

/// What is wanted of a robot's credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialWish {
    /// Raise it to have the robot choose a new credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub revision: Option<i64>,
    /// Let the robot in no more with the credential it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
    /// Let it register once more with the bootstrap token, as after its disk was lost. It is
    /// taken back when that has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew: Option<bool>,
}

/// What is observed of a robot.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RobotStatus {
    /// Where it stands, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RobotPhase>,
    /// When it was last heard of. Beats are remembered without being written down, so while it is
    /// Online this may be older than its last beat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// Why it stands where it stands, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_info: Option<DeviceInfo>,
    /// When it last registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Time>,
    /// The agent that speaks for it, and its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The protocol it speaks beyond the published one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<i64>,
    /// What it can do, as drivers it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drivers: Option<Vec<String>>,
    /// The credential it logs in with, as a hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// Until when it does not want to be disturbed by updates, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<String>,
    /// What is installed on it by RobotDeployments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployments: Option<Vec<InstalledDeployment>>,
    /// `Ready` is True while it is Online and approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// Where a robot stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum RobotPhase {
    /// It has not registered, or waits to be approved.
    #[default]
    Pending,
    /// It is heard of.
    Online,
    /// It is not.
    Offline,
    /// Nobody listens to it, so nobody knows.
    Unknown,
}

/// A credential as it is kept: what it hashes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// SHA-256 of the credential, in hexadecimal. Credentials are at least 32 random bytes, so
    /// the hash gives nothing away.
    pub sha256: String,
    /// Which it is; it grows with every rotation.
    pub revision: i64,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Time>,
    /// The hash before the last rotation, good until the robot has come with the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_sha256: Option<String>,
}

/// What a RobotDeployment has brought to a robot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstalledDeployment {
    /// The RobotDeployment.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The version that this is about.
    pub version: String,
    /// The generation of the deployment that this is about.
    pub generation: i64,
    /// How far it is.
    pub state: DeploymentState,
    /// The version that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_version: Option<String>,
    /// Why it stands where it stands, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether a text can be a robot's id: one level of a topic, the name of an object, and the robot's
/// name at the broker, where some are others' already.
pub fn is_robot_id(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(inner)
    };
    let taken = [names::BRIDGE_LOGIN, names::BOOTSTRAP_LOGIN].contains(&text);
    text.len() <= 63 && text.split('.').all(part) && !taken
}
