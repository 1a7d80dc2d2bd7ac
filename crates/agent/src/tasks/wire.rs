//! What the task executor's clients send and get: one JSON object per task.

use jiff::Timestamp;
use sandlot_supervisor::{End, Outcome, signal_name};
use serde::{Deserialize, Serialize};

/// A task, as wanted or as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Task {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_timestamp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod_template_spec: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process_status: Option<Status>,
}

/// What a task runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Process {
    pub(crate) command: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) args: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<Variable>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) working_dir: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_seconds: Option<i64>,
}

/// An environment variable. One that takes its value from elsewhere has none here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Where a task is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    Waiting {
        reason: String,
        message: String,
    },
    #[serde(rename_all = "camelCase")]
    Running {
        started_at: Option<Timestamp>,
    },
    #[serde(rename_all = "camelCase")]
    Terminated {
        exit_code: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        reason: String,
        message: String,
        started_at: Timestamp,
        finished_at: Timestamp,
    },
}

impl Status {
    /// How a run that is over is told. A timeout stays one, whatever the process ended with.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let (exit_code, reason) = match outcome.end {
            End::Exited(0) => (0, "Succeeded"),
            End::TimedOut { .. } => (137, "TaskTimeout"),
            End::Lost => (137, "ProcessCrashed"),
            End::NotFound | End::NotStartable => (outcome.end.code(), "StartFailed"),
            End::Stopped { .. } => (outcome.end.code(), "Stopped"),
            End::Exited(code) => (code, "Failed"),
            End::Signalled(_) => (outcome.end.code(), "Failed"),
        };
        let message = match outcome.end {
            End::Exited(0) => String::new(),
            End::Signalled(signal) => format!("{} ({})", outcome.reason, signal_name(signal)),
            _ => outcome.reason.clone(),
        };
        Self::Terminated {
            exit_code,
            signal: outcome.end.signal(),
            reason: reason.to_owned(),
            message,
            started_at: outcome.started,
            finished_at: outcome.finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(end: End) -> Outcome {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let usage = Default::default();
        Outcome {
            end,
            reason: "in words".into(),
            usage,
            started: at,
            finished: at,
        }
    }

    #[test]
    fn a_status_has_exactly_one_part_with_the_names_its_readers_know() {
        let told =
            serde_json::to_value(Status::of(&outcome(End::TimedOut { killed: false }))).unwrap();
        let expected = json!({ "terminated": {
            "exitCode": 137, "signal": 15, "reason": "TaskTimeout", "message": "in words",
            "startedAt": "2023-11-14T22:13:20Z", "finishedAt": "2023-11-14T22:13:20Z",
        }});
        assert_eq!(told, expected);
    }

    #[test]
    fn a_task_is_read_as_the_controller_writes_it() {
        let task: Task = serde_json::from_value(json!({
            "name": "b-0",
            "process": { "command": ["echo"], "args": ["x"], "env": [{ "name": "A", "value": "1", "valueFrom": null }],
                         "workingDir": "/tmp", "timeoutSeconds": 5 },
            "unknown": true,
        }))
        .unwrap();
        let process = task.process.unwrap();
        assert_eq!(
            (process.env[0].value.as_str(), process.timeout_seconds),
            ("1", Some(5))
        );
    }
}
