//! That a robot is there: how it registers, that it lives, whether it is connected.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A robot registers.
///
/// The published agents send the first three fields. What is in here is a secret on its way to
/// the bridge, whom alone the broker lets read it.
#[derive(Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Registration {
    /// The robot.
    pub robot_id: String,
    /// The bootstrap token, or the robot's own credential once it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Its machine, in whatever shape.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub device_info: Value,
    /// The credential that the robot has chosen for itself: at least 32 random bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The protocol it speaks beyond the published one; absent for published agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<i64>,
    /// The agent and its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The drivers it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drivers: Option<Vec<String>>,
    /// Labels it wants when it is made; an existing robot keeps its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<std::collections::BTreeMap<String, String>>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("robot_id", &self.robot_id)
            .field("protocol", &self.protocol)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

/// What became of a registration; or, unasked, that the robot must register again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Registered {
    /// Whether it worked.
    pub success: bool,
    /// What there is to say.
    pub message: String,
    /// The robot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub robot_id: Option<String>,
    /// The robot must register again: it is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub register_again: bool,
    /// It is registered and waits for somebody's approval.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// How often it should beat, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beat_seconds: Option<u64>,
    /// The revision of the credential that is good now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_revision: Option<i64>,
}

/// A robot lives.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Beat {
    /// The robot.
    pub robot_id: String,
    /// The token, from agents of the published protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Its machine, when something lasting has changed.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub device_info: Value,
    /// Why it does not want to be disturbed by updates now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<String>,
}

/// Whether a robot is connected: retained, and left behind as its last will.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Whether it is.
    pub state: PresenceState,
    /// Which of its connections this is about: a number that grows. A last will that comes after
    /// the robot has connected again is about an older one.
    #[serde(default)]
    pub session: i64,
    /// When it was said, by the robot's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Whether a robot is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum PresenceState {
    /// It is.
    #[serde(rename = "ONLINE")]
    Online,
    /// It has left in order.
    #[serde(rename = "OFFLINE")]
    Offline,
    /// Its connection broke.
    #[serde(rename = "CONNECTIONBROKEN")]
    ConnectionBroken,
}

/// The robot's new credential.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotatedCredential {
    /// The credential.
    pub credential: String,
    /// The revision that was asked for.
    pub revision: i64,
}
