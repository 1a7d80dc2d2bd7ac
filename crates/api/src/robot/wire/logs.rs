//! What a robot's tasks print, when somebody asks.

use serde::{Deserialize, Serialize};

/// What of a task's output is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogRequest {
    /// The request's id: the last level of the topic that is answered on.
    pub id: String,
    /// The Task's uid.
    pub task: String,
    /// Which stream.
    pub stream: LogStream,
    /// Only the last so many bytes of what is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail_bytes: Option<u64>,
    /// Go on as more is printed, until the task has ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Nobody waits any more: stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Stop after so many seconds unless it is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// A stream of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogChunk {
    /// Its number, from 0.
    pub sequence: u64,
    /// The bytes, in base64.
    pub data: String,
    /// Nothing more comes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
    /// Why nothing can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
