//! Task: one run of a task definition on one robot, and what came of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Amount, Artifact, Constraint, DisconnectPolicy, Driver, Freeform, JobType, NetworkNeed,
    Resources, RestartPolicy, TaskConfig, TaskDefinition, Template, names,
};
use crate::GoDuration;

/// What to run, and where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "robot.k8s4r.io",
    version = "v1alpha1",
    kind = "Task",
    plural = "tasks",
    singular = "task",
    shortname = "rtask",
    category = "k8s4r",
    namespaced,
    status = "TaskStatus",
    derive = "PartialEq",
    doc = "One run of a task on a robot.",
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobName"),
    printcolumn(name = "Robot", type_ = "string", json_path = ".spec.targetRobot"),
    printcolumn(name = "Driver", type_ = "string", json_path = ".spec.driver"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "ExitCode", type_ = "integer", json_path = ".status.exitCode"),
    printcolumn(
        name = "Restarts",
        type_ = "integer",
        json_path = ".status.restartCount"
    ),
    printcolumn(
        name = "Reason",
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
pub struct TaskSpec {
    /// Its name in the group.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Who runs it.
    pub driver: Driver,
    /// What is run.
    pub config: TaskConfig,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// The TaskGroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_group_name: Option<String>,
    /// The replica of the group, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<i32>,
    /// How the job lives.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<JobType>,
    /// The job's priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<i32>,
    /// Notes of the job's, for the environment and templates: the one thing that may change while
    /// the task has a robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
    /// Which attempt this is at the replica, from 0: it grows when the replica moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// The robot; one that fits is chosen if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_robot: Option<String>,
    /// What it needs of the robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Conditions that a robot must meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<Constraint>>,
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
    /// What happens on the robot when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// What happens when the robot is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<DisconnectPolicy>,
    /// Files fetched before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Vec<Artifact>>,
    /// Files written before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<Vec<Template>>,
    /// Tasks that run before it; once for all tasks of a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_tasks: Option<Vec<TaskDefinition>>,
    /// Services that it offers, kept for those who look them up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<Freeform>>,
    /// The network that it is part of, kept for those who look it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Freeform>,
}

impl Task {
    /// Whether it is to be stopped.
    pub fn is_stopped(&self) -> bool {
        let asked = |notes: &BTreeMap<String, String>| notes.contains_key(names::STOP);
        self.metadata.deletion_timestamp.is_some()
            || self.metadata.annotations.as_ref().is_some_and(asked)
    }
}

impl TaskSpec {
    /// What a robot runs for it.
    pub fn definition(&self) -> TaskDefinition {
        TaskDefinition {
            name: self.name.clone(),
            driver: self.driver,
            config: self.config.clone(),
            resources: self.resources.clone(),
            env: self.env.clone(),
            user: self.user.clone(),
            timeout: self.timeout,
            kill_timeout: self.kill_timeout,
            artifacts: self.artifacts.clone(),
            templates: self.templates.clone(),
            daemon: None,
        }
    }
}

/// What is observed of a task.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Where it stands, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// When it was last started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restart_time: Option<Time>,
    /// How many times it was started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<i32>,
    /// Why it stands where it stands, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why, as a word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The last 10 KB of what it printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    /// The last 5 KB of its standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_stdout: Option<String>,
    /// The last 5 KB of its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs_stderr: Option<String>,
    /// What happened to it, the latest twenty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<TaskEvent>>,
    /// What it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated_resources: Option<AllocatedResources>,
    /// What it uses, as its robot last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The number of the latest report that is in here; later ones are higher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// What that number is counted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<String>,
}

/// Where a task stands.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It waits for a robot.
    #[default]
    Pending,
    /// It is on its way to its robot.
    Dispatching,
    /// The same, as later clients of this API call it.
    Scheduled,
    /// The robot has taken it.
    Accepted,
    /// The robot fetches what it needs.
    Downloading,
    /// It is about to start.
    Starting,
    /// It runs.
    Running,
    /// It was told to end.
    Stopping,
    /// Its process has ended, and what that means is not decided.
    Exited,
    /// Its robot is not heard of; nobody knows.
    Lost,
    /// It ended well.
    Completed,
    /// It did not.
    Failed,
    /// It was stopped because somebody wanted so.
    Cancelled,
    /// The robot cannot run it.
    Rejected,
}

impl TaskState {
    /// Whether nothing more will happen to the task.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Rejected
        )
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dispatching => "dispatching",
            Self::Scheduled => "scheduled",
            Self::Accepted => "accepted",
            Self::Downloading => "downloading",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Lost => "lost",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

/// Something that happened to a task.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskEvent {
    /// What.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub time: Time,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_message: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<BTreeMap<String, String>>,
}

/// What a task was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocatedResources {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
    /// Disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Amount>,
    /// Networks and ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<NetworkNeed>>,
}

/// What a task uses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Usage {
    /// Processors, in percent of one.
    #[serde(default, rename = "CPUPercent")]
    pub cpu_percent: f64,
    /// Memory, in megabytes.
    #[serde(default, rename = "MemoryMB")]
    pub memory_mb: f64,
    /// Disk, in megabytes.
    #[serde(default, rename = "DiskMB")]
    pub disk_mb: f64,
}
