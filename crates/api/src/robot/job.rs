//! Job: groups of tasks for robots that fit.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Constraint, DisconnectPolicy, EphemeralDisk, Freeform, GroupResources, ReschedulePolicy,
    RestartPolicy, TaskDefinition, UpdatePolicy, conditions,
};

/// What to run, and on which robots.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "robot.k8s4r.io",
    version = "v1alpha1",
    kind = "Job",
    plural = "jobs",
    singular = "job",
    shortname = "rjob",
    category = "k8s4r",
    namespaced,
    status = "JobStatus",
    derive = "PartialEq",
    doc = "Groups of tasks for robots that fit.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.totalTasks"),
    printcolumn(
        name = "Succeeded",
        type_ = "integer",
        json_path = ".status.succeededTasks"
    ),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failedTasks"),
    printcolumn(
        name = "Running",
        type_ = "integer",
        json_path = ".status.runningTasks"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.statusDescription",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// Its name for people.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Labels a robot must have; none is every robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot_selector: Option<BTreeMap<String, String>>,
    /// How it lives: `batch` runs to its end, `service` is kept running, `system` is on every
    /// robot that fits.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<JobType>,
    /// Accepted for older clients; robots have labels instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenters: Option<Vec<String>>,
    /// Who comes first when robots are short: more is first (the default is 50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<i32>,
    /// The groups.
    #[schemars(length(min = 1))]
    pub task_groups: Vec<TaskGroupTemplate>,
    /// Conditions that a robot must meet, for every group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<Constraint>>,
    /// How edits reach what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdatePolicy>,
    /// Stop everything, and keep the job to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Notes for the tasks: in their environment as `META_NAME`, and in templates as
    /// `{{ meta "NAME" }}`. An edit reaches tasks that run, in place: a template that shows it is
    /// written anew, and its changeMode says what becomes of the task; the environment is as it
    /// was until the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
}

/// How a job lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobType {
    /// Kept running.
    Service,
    /// Runs to its end.
    #[default]
    Batch,
    /// On every robot that fits.
    System,
}

/// A group of tasks that run on one robot together, so many times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskGroupTemplate {
    /// Its name in the job.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How many times it runs, each on a robot of its own first.
    #[schemars(range(min = 1, max = 10000))]
    pub count: i32,
    /// Tasks that run before the others, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_tasks: Option<Vec<TaskDefinition>>,
    /// The tasks, which run side by side.
    #[schemars(length(min = 1))]
    pub tasks: Vec<TaskDefinition>,
    /// Conditions that a robot must meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<Constraint>>,
    /// What happens on the robot when a task fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// What happens in the cluster when it has failed there for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reschedule_policy: Option<ReschedulePolicy>,
    /// What happens when the robot is not heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<DisconnectPolicy>,
    /// How edits reach what runs; the job's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdatePolicy>,
    /// Disk beside its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_disk: Option<EphemeralDisk>,
    /// What all its tasks may use together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<GroupResources>,
    /// The network that its replicas are part of, kept for those who look it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Freeform>,
    /// Notes for the group's tasks, instead of the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
}

/// What is observed of a job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Where it stands, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_description: Option<String>,
    /// The generation that was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_index: Option<i64>,
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modify_index: Option<i64>,
    /// The generation that this status speaks of, under Kubernetes' name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many tasks there are, over all replicas.
    #[serde(default)]
    pub total_tasks: i32,
    /// How many have completed.
    #[serde(default)]
    pub succeeded_tasks: i32,
    /// How many have failed.
    #[serde(default)]
    pub failed_tasks: i32,
    /// How many are on their way or running.
    #[serde(default)]
    pub running_tasks: i32,
    /// How many wait.
    #[serde(default)]
    pub pending_tasks: i32,
    /// The TaskGroups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_groups: Option<Vec<String>>,
    /// The Tasks, up to a hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<String>>,
    /// Where the tasks of each group stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_group_summary: Option<BTreeMap<String, GroupSummary>>,
    /// When the first task started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// `Complete` is True after success, `Failed` after failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// No task has been given to a robot.
    #[default]
    Pending,
    /// Tasks are on their way or running.
    Running,
    /// Every task has completed.
    Completed,
    /// Every task has ended and one has failed.
    Failed,
    /// It was cancelled, and nothing of it runs.
    Cancelled,
}

impl JobState {
    /// The word for it, as conditions give it for a reason.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// Where the tasks of a group stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct GroupSummary {
    /// They wait for a robot.
    pub queued: i32,
    /// They have completed.
    pub complete: i32,
    /// They have failed.
    pub failed: i32,
    /// They run.
    pub running: i32,
    /// They are on their way.
    pub starting: i32,
    /// Nobody knows: their robot is not heard of.
    pub lost: i32,
}
