//! The messages of the published revisions, as their agents and servers say them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AttemptKey, TaskReport};
use crate::robot::{Task, TaskState, Usage};

/// A task to start or to stop.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dispatch {
    /// Which of both.
    pub action: Action,
    /// The whole Task.
    pub task: Task,
}

/// What to do with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Start it.
    Create,
    /// Stop it.
    Delete,
}

/// All tasks of a robot: retained, and empty when there are none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct State {
    /// The tasks.
    #[serde(default)]
    pub tasks: Vec<Task>,
}

/// What has become of a task.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The Task's uid.
    pub task_uid: String,
    /// The robot.
    pub robot_name: String,
    /// Where it stands, in whatever words.
    pub state: String,
    /// What it ended with. Published agents write 0 as long as it has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it stands where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub updated_at: Value,
    /// What happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What it uses.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub resources: Value,
}

impl Status {
    /// What a robot of ours says to a server of the published protocol. An end with a code is
    /// `exited` there, and the server says what the code means.
    pub fn of(report: &TaskReport, robot: &str, at: Timestamp) -> Self {
        let state = match (report.state, report.exit_code) {
            (TaskState::Completed | TaskState::Failed | TaskState::Exited, Some(_))
                if report.event.as_deref() != Some("Timeout") =>
            {
                "exited"
            }
            (TaskState::Completed | TaskState::Exited, _) => "completed",
            (TaskState::Failed | TaskState::Rejected | TaskState::Cancelled, _) => "failed",
            (TaskState::Running | TaskState::Stopping, _) => "running",
            _ => "pending",
        };
        Self {
            task_uid: report.key.uid.clone(),
            robot_name: robot.to_owned(),
            state: state.to_owned(),
            // Published servers read a number here, whatever the state.
            exit_code: Some(report.exit_code.unwrap_or(0)),
            message: report.message.clone(),
            updated_at: Value::String(at.to_string()),
            event: report.event.clone(),
            resources: Value::Null,
        }
    }

    /// The same as a robot of ours would say it; nothing for a state that nobody knows.
    pub fn report(&self, generation: i64, attempt: i64) -> Option<TaskReport> {
        let state = match self.state.as_str() {
            // The robot has been assigned the task; it is the robot's own word for "taken".
            "pending" | "accepted" => TaskState::Accepted,
            "downloading" => TaskState::Downloading,
            "starting" => TaskState::Starting,
            "running" => TaskState::Running,
            "exited" => match self.exit_code {
                Some(0) | None => TaskState::Completed,
                Some(_) => TaskState::Failed,
            },
            "completed" | "complete" => TaskState::Completed,
            // `dead` is how the first agents say that a process could not start.
            "failed" | "dead" => TaskState::Failed,
            "cancelled" | "stopped" => TaskState::Cancelled,
            _ => return None,
        };
        Some(TaskReport {
            key: AttemptKey {
                uid: self.task_uid.clone(),
                generation,
                attempt,
            },
            state,
            exit_code: self.exit_code.filter(|_| state.is_terminal()),
            message: self.message.clone().filter(|text| !text.is_empty()),
            event: self.event.clone().filter(|text| !text.is_empty()),
            usage: serde_json::from_value::<Usage>(self.resources.clone()).ok(),
            ..TaskReport::default()
        })
    }
}
