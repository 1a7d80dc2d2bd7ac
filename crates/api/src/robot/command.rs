//! Command: something to do now, on some robots, at most once on each.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::GoDuration;

/// What to do, and where.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
)]
#[kube(
    group = "robot.k8s4r.io",
    version = "v1alpha1",
    kind = "Command",
    plural = "commands",
    singular = "command",
    shortname = "rcmd",
    category = "k8s4r",
    namespaced,
    status = "CommandStatus",
    derive = "PartialEq",
    doc = "Something to do once on robots, with a result of each.",
    printcolumn(name = "Verb", type_ = "string", json_path = ".spec.verb"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total"),
    printcolumn(name = "Succeeded", type_ = "integer", json_path = ".status.succeeded"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct CommandSpec {
    /// Robots by name; together with those that `robotSelector` selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10000))]
    pub robots: Option<Vec<String>>,
    /// Robots by their labels. They are chosen once, when the command is first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot_selector: Option<BTreeMap<String, String>>,
    /// What to do: `exec` runs a program, `ping` answers, `restart-agent` restarts the agent.
    #[schemars(length(min = 1, max = 63))]
    pub verb: String,
    /// What it is done with; for `exec` the program and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub args: Option<Vec<String>>,
    /// Within which time of its creation it must be done (the default is 1m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<GoDuration>,
    /// Do not start it where it has not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
}

/// What is observed of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CommandState>,
    /// How many robots it is for.
    #[serde(default)]
    pub total: i32,
    /// On how many it succeeded.
    #[serde(default)]
    pub succeeded: i32,
    /// On how many it did not, for whatever reason.
    #[serde(default)]
    pub failed: i32,
    /// When its time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the last result came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Why it stands where it stands, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What came of it on each robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Vec<CommandResult>>,
}

/// Where a command stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum CommandState {
    /// Its robots have not been chosen.
    #[default]
    Pending,
    /// Some robots have not said what came of it.
    Running,
    /// It succeeded everywhere.
    Succeeded,
    /// It did not.
    Failed,
    /// It was cancelled before it was done everywhere.
    Cancelled,
}

/// What came of a command on a robot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommandResult {
    /// The robot.
    pub robot: String,
    /// Where it stands there.
    pub state: CommandResultState,
    /// What the program ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What it printed, the last 4 KB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Why it stands where it stands, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Where a command stands on a robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum CommandResultState {
    /// The robot has not answered.
    #[default]
    Pending,
    /// It is being done.
    Running,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// Its time was over before it was done.
    Expired,
    /// The robot does not know the verb, or does not allow it.
    Rejected,
    /// It was cancelled before it started.
    Cancelled,
}

impl CommandResultState {
    /// Whether nothing more will come.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}
