//! What has become of what a robot was to do.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::robot::{CommandResultState, DeploymentState, Task, TaskState, Usage};

/// One attempt at one task: what makes that it takes effect once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptKey {
    /// The Task's uid.
    pub uid: String,
    /// Always 1: a task that has a robot is as it is, and what the API counts in its generation,
    /// such as that it is being deleted, makes it no other attempt. Robots tell keys apart by it.
    pub generation: i64,
    /// The attempt, from 0.
    pub attempt: i64,
}

impl AttemptKey {
    /// Which attempt a Task is.
    pub fn of(task: &Task) -> Self {
        Self {
            uid: task.metadata.uid.clone().unwrap_or_default(),
            generation: 1,
            attempt: task.spec.attempt.unwrap_or(0),
        }
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.uid, self.generation, self.attempt)
    }
}

/// Some reports of a robot, in order.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reports {
    /// What the numbers are counted in: another when the robot has lost its spool.
    pub spool: String,
    /// The number of the report that is kept before these, or 0 if these are the oldest: who has
    /// not heard that one waits until it is told it.
    #[serde(skip_serializing_if = "is_zero")]
    pub after: i64,
    /// The reports, in order, with none left out that is kept.
    pub reports: Vec<Report>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its number: 1 for the first of a spool, then one more each.
    pub sequence: i64,
    /// When it happened, by the robot's clock.
    pub at: Timestamp,
    /// What happened.
    pub news: News,
}

/// What a report is about.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum News {
    /// A task is somewhere else in its life.
    Task(Box<TaskReport>),
    /// A command is.
    Command(CommandReport),
    /// A program that is installed is.
    Deployment(DeploymentReport),
}

/// Up to which report everything was written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Acknowledged {
    /// What the number is counted in.
    pub spool: String,
    /// The number.
    pub sequence: i64,
}

/// Where a task is in its life.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskReport {
    /// Which attempt at which task.
    pub key: AttemptKey,
    /// The Task's name and namespace, as the robot was told them.
    pub name: String,
    /// The Task's namespace.
    pub namespace: String,
    /// Where it stands.
    pub state: TaskState,
    /// Why, as a word, such as `Timeout`, `ArtifactFailed`, `NoDriver`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What happened, in the published words: Assigned, Downloading, Downloaded, DownloadFailed,
    /// Starting, Started, StartFailed, Completed, Failed, Timeout; and Restarting, Stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What it ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How many times it was started again here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<i32>,
    /// When it was last started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_restart_at: Option<Timestamp>,
    /// The end of its standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// The end of its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// What it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Where the tasks before it stand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_tasks: Vec<InitReport>,
}

/// Where an init task stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InitReport {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: TaskState,
    /// What it ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// Where a command stands on this robot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CommandReport {
    /// The Command's uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: CommandResultState,
    /// What the program ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What it printed, at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Why it stands where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a program is on this robot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentReport {
    /// The RobotDeployment's uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The generation this is about.
    pub generation: i64,
    /// The version this is about.
    pub version: String,
    /// How far it is.
    pub state: DeploymentState,
    /// The version that runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_version: Option<String>,
    /// Why it stands where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
