//! What a robot is to do.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::AttemptKey;
use crate::{
    GoDuration,
    robot::{
        Artifact, DisconnectPolicy, ExecConfig, GroupResources, JobType, RestartPolicy, Task,
        TaskDefinition,
    },
};

/// All that a robot is to do. What is not in here is not to be done: a robot stops and forgets
/// tasks that are missing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Desired {
    /// Grows with every document. A robot passes over one that is older than what it has, unless
    /// `epoch` is another.
    pub version: i64,
    /// What the versions are counted in: another when whoever writes the documents has lost count.
    pub epoch: String,
    /// The robot's uid in the cluster: another when it was deleted and has registered again.
    pub robot_uid: String,
    /// The tasks.
    pub tasks: Vec<DesiredTask>,
    /// Commands that are open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<DesiredCommand>,
    /// Programs to install.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<DesiredDeployment>,
    /// The robot's labels, as the cluster knows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The revision of the credential that is wanted: a robot with an older one chooses another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_revision: Option<i64>,
}

/// A task that is to run, or to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredTask {
    /// Which attempt at which task this is: it takes effect once, however often it is told.
    pub key: AttemptKey,
    /// The Task's name.
    pub name: String,
    /// The Task's namespace.
    pub namespace: String,
    /// The group's replica that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupPlace>,
    /// What to run.
    pub definition: TaskDefinition,
    /// What runs before: once for all tasks of the same group, replica and attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_tasks: Vec<TaskDefinition>,
    /// What happens when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// What happens while the robot is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<DisconnectPolicy>,
    /// It is to be stopped, and reported as cancelled; also if it never started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
    /// It is to be kept running: one that ends well is started again too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub service: bool,
    /// Higher goes first when not all fit.
    #[serde(default)]
    pub priority: i32,
    /// Notes of the job's, for templates and the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

impl DesiredTask {
    /// What a robot is to do for a Task. `siblings` says how many tasks its replica has.
    pub fn of(task: &Task, siblings: usize) -> Self {
        let spec = &task.spec;
        let owners = task.metadata.owner_references.iter().flatten();
        let group = spec.task_group_name.as_ref().map(|group| GroupPlace {
            name: group.clone(),
            uid: owners
                .clone()
                .find(|owner| owner.kind == "TaskGroup")
                .map(|owner| owner.uid.clone())
                .unwrap_or_default(),
            replica: spec.replica.unwrap_or(0),
            job: spec.job_name.clone().unwrap_or_default(),
            tasks: siblings,
            resources: None,
        });
        Self {
            key: AttemptKey::of(task),
            name: task.metadata.name.clone().unwrap_or_default(),
            namespace: task.metadata.namespace.clone().unwrap_or_default(),
            group,
            definition: spec.definition(),
            init_tasks: spec.init_tasks.clone().unwrap_or_default(),
            restart_policy: spec.restart_policy.clone(),
            disconnect: spec.disconnect.clone(),
            stop: task.is_stopped(),
            service: matches!(spec.kind, Some(JobType::Service | JobType::System)),
            priority: spec.priority.unwrap_or(50),
            meta: spec.meta.clone().unwrap_or_default(),
        }
    }
}

/// A group's replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupPlace {
    /// The TaskGroup's name.
    pub name: String,
    /// The TaskGroup's uid.
    pub uid: String,
    /// The replica, from 0.
    pub replica: i32,
    /// The job's name.
    #[serde(default)]
    pub job: String,
    /// How many tasks the replica has: the init tasks' daemons end when all have ended.
    #[serde(default)]
    pub tasks: usize,
    /// What all its tasks may use together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<GroupResources>,
}

/// A command that is open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredCommand {
    /// The Command's uid: it is done at most once.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// What to do.
    pub verb: String,
    /// What it is done with.
    #[serde(default)]
    pub args: Vec<String>,
    /// When its time is over, by the cluster's clock.
    pub expires_at: Timestamp,
    /// How much of its time was left when the document was written: for robots whose clock is
    /// off, who count from when they got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left: Option<GoDuration>,
    /// Do not start it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// A program to install.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DesiredDeployment {
    /// The RobotDeployment's uid.
    pub uid: String,
    /// Its name: the folder that it is installed in.
    pub name: String,
    /// The generation that the version came with.
    pub generation: i64,
    /// The version.
    pub version: String,
    /// What it consists of.
    pub artifacts: Vec<Artifact>,
    /// What must succeed for it to count as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ExecConfig>,
    /// How long that may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_deadline: Option<GoDuration>,
    /// What is run after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<ExecConfig>,
}
