//! What a task is made of: its driver and what that runs, files it needs, variables, limits.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Amount;
use crate::GoDuration;

/// A task as a group describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinition {
    /// Its name in the group.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Who runs it.
    pub driver: Driver,
    /// What is run.
    pub config: TaskConfig,
    /// What it needs of the robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// The user it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How long it may take from start to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// How long it has to end by itself once it is told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_timeout: Option<GoDuration>,
    /// Files fetched before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Vec<Artifact>>,
    /// Files written before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<Vec<Template>>,
    /// For init tasks: go on once it has started, and stop it when the group ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<bool>,
}

/// Who runs a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A process, isolated from the rest of the robot.
    #[default]
    Exec,
    /// A container.
    Docker,
    /// A Java program.
    Java,
    /// A process like any other.
    RawExec,
}

impl Driver {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Docker => "docker",
            Self::Java => "java",
            Self::RawExec => "raw_exec",
        }
    }
}

/// What is run: the part of the task's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskConfig {
    /// For `exec` and `raw_exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_config: Option<ExecConfig>,
    /// For `docker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_config: Option<DockerConfig>,
    /// For `java`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub java_config: Option<JavaConfig>,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecConfig {
    /// The program.
    #[schemars(length(min = 1))]
    pub command: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DockerConfig {
    /// Its image.
    #[schemars(length(min = 1))]
    pub image: String,
    /// The program; the image's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// The folder it starts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<String>,
    /// Ports of the container and where they are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<DockerPort>>,
    /// Folders of the robot in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<DockerVolume>>,
    /// Its network: `bridge`, `host` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<String>,
}

impl DockerConfig {
    /// Whether an engine takes this for an image's name: it comes after the engine's own options,
    /// and must not be one more.
    pub fn may_be_image(name: &str) -> bool {
        !name.is_empty() && !name.starts_with('-')
    }
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DockerPort {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The robot's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub value: Option<i32>,
    /// The container's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub to: Option<i32>,
    /// The robot's address that it is reached at.
    #[serde(default, rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
}

/// A folder of the robot in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DockerVolume {
    /// Where it is in the container.
    pub target: String,
    /// Where it is on the robot.
    pub source: String,
    /// Whether the container may only read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// A Java program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JavaConfig {
    /// The archive to run.
    #[schemars(length(min = 1))]
    pub jar_path: String,
    /// Options of the virtual machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jvm_options: Option<Vec<String>>,
    /// The program's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// The class to start, instead of the archive's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Where further classes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classpath: Option<Vec<String>>,
}

/// What a task needs of its robot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processors, such as `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,
    /// Memory, such as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
    /// Disk, such as `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Amount>,
    /// Disk operations a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<i64>,
    /// Networks and ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<NetworkNeed>>,
}

/// What a task needs of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkNeed {
    /// Megabits a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mbits: Option<i32>,
    /// Ports it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_ports: Option<Vec<PortNeed>>,
    /// Ports it must have some of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_ports: Option<Vec<PortNeed>>,
}

/// A port a task needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortNeed {
    /// Its name.
    pub label: String,
    /// The robot's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<i32>,
    /// The port inside a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i32>,
}

/// A file or archive fetched before a task starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Where it is: `https://…`, `http://…`, `file://…` or `s3://…`.
    #[schemars(length(min = 1))]
    pub getter_source: String,
    /// How it is checked: `checksum` as `sha256:…`, or `signature` with `publicKey`, both in base64
    /// of ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub getter_options: Option<BTreeMap<String, String>>,
    /// Where it goes in the task's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_dest: Option<String>,
    /// Whether it is unpacked: `any` unpacks archives, `file` does not, `dir` must be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub getter_mode: Option<GetterMode>,
}

/// What becomes of an artifact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GetterMode {
    /// Archives are unpacked, other files kept.
    #[default]
    Any,
    /// It is kept as it is.
    File,
    /// It is an archive, and unpacked.
    Dir,
}

/// A file written before a task starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Where it goes in the task's folder.
    #[schemars(length(min = 1))]
    pub dest_path: String,
    /// A file in the task's folder that holds the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_path: Option<String>,
    /// The template itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded_tmpl: Option<String>,
    /// What happens when its text changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_mode: Option<ChangeMode>,
    /// The signal for `changeMode: signal`, such as `SIGHUP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_signal: Option<String>,
    /// The file's mode, such as `0644`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perms: Option<String>,
    /// What opens an expression, `{{` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_delim: Option<String>,
    /// What closes an expression, `}}` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_delim: Option<String>,
}

/// What happens when a template's text changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeMode {
    /// The task starts anew.
    #[default]
    Restart,
    /// Nothing.
    Noop,
    /// The task gets a signal.
    Signal,
}
