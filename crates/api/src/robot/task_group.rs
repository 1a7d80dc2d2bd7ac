//! TaskGroup: the replicas of one group of a job, and the robots they are on.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Constraint, DisconnectPolicy, EphemeralDisk, Freeform, GroupResources, JobType,
    ReschedulePolicy, RestartPolicy, TaskDefinition, UpdatePolicy, conditions,
};

/// What each replica runs.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "robot.k8s4r.io",
    version = "v1alpha1",
    kind = "TaskGroup",
    plural = "taskgroups",
    singular = "taskgroup",
    shortname = "rtg",
    category = "k8s4r",
    namespaced,
    status = "TaskGroupStatus",
    derive = "PartialEq",
    doc = "The replicas of one group of a Job.",
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobName"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.totalTasks"),
    printcolumn(
        name = "Running",
        type_ = "integer",
        json_path = ".status.runningTasks"
    ),
    printcolumn(
        name = "Succeeded",
        type_ = "integer",
        json_path = ".status.succeededTasks"
    ),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failedTasks"),
    printcolumn(
        name = "Rollout",
        type_ = "string",
        json_path = ".status.rollout.state",
        priority = 1
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
pub struct TaskGroupSpec {
    /// The job.
    #[schemars(length(min = 1))]
    pub job_name: String,
    /// The group's name in the job.
    #[schemars(length(min = 1))]
    pub group_name: String,
    /// How many replicas.
    #[schemars(range(min = 1, max = 10000))]
    pub count: i32,
    /// Labels a robot must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot_selector: Option<BTreeMap<String, String>>,
    /// How the job lives.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<JobType>,
    /// The job's priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<i32>,
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
    /// How edits reach what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdatePolicy>,
    /// Disk beside its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_disk: Option<EphemeralDisk>,
    /// What all tasks of a replica may use together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<GroupResources>,
    /// The network that its replicas are part of, kept for those who look it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Freeform>,
    /// Stop every replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Notes for the group's tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
}

/// What is observed of a group.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskGroupStatus {
    /// Where it stands, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<GroupState>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_description: Option<String>,
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many tasks there are, over all replicas.
    #[serde(default)]
    pub total_tasks: i32,
    /// How many wait.
    #[serde(default)]
    pub pending_tasks: i32,
    /// How many are on their way or running.
    #[serde(default)]
    pub running_tasks: i32,
    /// How many have completed.
    #[serde(default)]
    pub succeeded_tasks: i32,
    /// How many have failed.
    #[serde(default)]
    pub failed_tasks: i32,
    /// Of how many nobody knows: their robot is not heard of.
    #[serde(default)]
    pub lost_tasks: i32,
    /// When the first task started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Which replica is on which robot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_robots: Option<Vec<AssignedRobot>>,
    /// How the latest edit reaches the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// `Complete` is True after success, `Failed` after failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Option<Vec<Condition>>,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupState {
    /// Not every replica has a robot, and none runs.
    #[default]
    Pending,
    /// Every replica has a robot, and none runs yet.
    Scheduled,
    /// Tasks run.
    Running,
    /// Every task has completed.
    Completed,
    /// Every task has ended and one has failed.
    Failed,
    /// It was cancelled, and nothing of it runs.
    Cancelled,
}

impl GroupState {
    /// The word for it, as conditions give it for a reason.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Scheduled => "Scheduled",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// Which robot a replica is on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedRobot {
    /// The replica, from 0.
    pub replica_index: i32,
    /// The robot.
    pub robot_name: String,
}

/// How an edit reaches what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Where it stands.
    pub state: RolloutState,
    /// The version that is rolled out.
    pub revision: String,
    /// How many have it.
    #[serde(default)]
    pub updated: i32,
    /// How many of them are healthy.
    #[serde(default)]
    pub healthy: i32,
    /// How many of them have failed.
    #[serde(default)]
    pub failed: i32,
    /// How many there are.
    #[serde(default)]
    pub total: i32,
    /// Why it stands where it stands, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum RolloutState {
    /// It goes on.
    #[default]
    Progressing,
    /// The canaries are healthy and wait for `promote`.
    AwaitingPromotion,
    /// It was told to wait.
    Paused,
    /// All have it and are healthy.
    Completed,
    /// Too many failed; what has the old version keeps it.
    Aborted,
    /// Too many failed; it went back to what worked.
    Reverted,
}
