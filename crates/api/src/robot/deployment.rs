//! RobotDeployment: a version of a program on robots, brought there in steps.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Artifact, ExecConfig, RolloutStatus, UpdatePolicy, conditions};
use crate::GoDuration;

/// What to install, and where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "robot.k8s4r.io",
    version = "v1alpha1",
    kind = "RobotDeployment",
    plural = "robotdeployments",
    singular = "robotdeployment",
    shortname = "rdeploy",
    category = "k8s4r",
    namespaced,
    status = "RobotDeploymentStatus",
    derive = "PartialEq",
    doc = "A version of a program on robots.",
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desired"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.updated"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    printcolumn(
        name = "Rollout",
        type_ = "string",
        json_path = ".status.rollout.state"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RobotDeploymentSpec {
    /// Labels a robot must have; none is every robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot_selector: Option<BTreeMap<String, String>>,
    /// The version.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// What it consists of; each should have a checksum or a signature.
    #[schemars(length(min = 1, max = 100))]
    pub artifacts: Vec<Artifact>,
    /// A program, in the version's folder, that must succeed for the version to count as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ExecConfig>,
    /// How long that may take (the default is 1m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_deadline: Option<GoDuration>,
    /// A program, in the version's folder, run after the switch: to restart what uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<ExecConfig>,
    /// In which steps it reaches the robots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdatePolicy>,
}

/// What is observed of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RobotDeploymentStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many robots it is for.
    #[serde(default)]
    pub desired: i32,
    /// How many were told to install this version.
    #[serde(default)]
    pub updated: i32,
    /// On how many it runs and is healthy.
    #[serde(default)]
    pub ready: i32,
    /// On how many it failed.
    #[serde(default)]
    pub failed: i32,
    /// How the version reaches the robots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// What each robot was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robots: Option<Vec<DeploymentTarget>>,
    /// The version that was last on all robots in health, to which a failed rollout goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<StableVersion>,
    /// `Available` is True while it is healthy on every robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// What a robot was told to install.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentTarget {
    /// The robot.
    pub robot_name: String,
    /// The version it was told.
    pub version: String,
    /// The generation that this version came with, by which robots tell one installation of it
    /// from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// How far it is there.
    #[serde(default)]
    pub state: DeploymentState,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A version that works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StableVersion {
    /// The version.
    pub version: String,
    /// The generation that it came with: robots that still have it need not fetch it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// What it consists of.
    pub artifacts: Vec<Artifact>,
    /// Its health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ExecConfig>,
    /// What is run after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<ExecConfig>,
}

/// How far a version is on a robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum DeploymentState {
    /// The robot has not said.
    #[default]
    Pending,
    /// It fetches the artifacts.
    Downloading,
    /// It waits until it is no longer busy.
    Waiting,
    /// It has switched, and checks.
    Verifying,
    /// It runs and is healthy.
    Healthy,
    /// It failed, and the robot went back to what it had.
    RolledBack,
    /// It failed, and there was nothing to go back to.
    Failed,
}
