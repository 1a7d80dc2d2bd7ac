//! Where what is said.

use std::fmt;

use crate::robot::is_robot_id;

/// A topic, with the robot it is about.
///
/// The robot's id is one level of each topic, and everything that a robot with a credential of
/// its own says or hears is below its own level: that is what the brokers' rules are made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A robot registers, with the bootstrap token; retained never.
    Register,
    /// A robot of the published protocol says that it is alive.
    Heartbeat,
    /// A robot registers again, with its own credential.
    OwnRegister(String),
    /// A robot says that it is alive.
    OwnHeartbeat(String),
    /// What became of the registration.
    Response(String),
    /// The same where the first published revision expects it.
    FirstResponse(String),
    /// Whether the robot is connected; retained, and the robot's last will.
    Presence(String),
    /// What the robot is to do; retained.
    Desired(String),
    /// What has become of it.
    Reports(String),
    /// Up to which report it was written down.
    Acknowledged(String),
    /// The robot's new credential, when it was asked for one.
    Credential(String),
    /// What of a task's output is wanted.
    LogRequest(String),
    /// A piece of a task's output, for the request of that id.
    LogChunk(String, String),
    /// Tasks to start and stop, as published later.
    Dispatch(String),
    /// Tasks to start and stop, as published first.
    FirstDispatch(String),
    /// Something for the robot to read, in words, as published first.
    Words(String),
    /// What has become of a task, as published later: robot and the task's uid.
    Status(String, String),
    /// What has become of a task, as published first: robot and the task's uid.
    FirstStatus(String, String),
    /// All tasks of a robot of the published protocol; retained.
    State(String),
}

impl Topic {
    /// Reads a topic. Nothing for one that is none of ours, or about what can be no robot.
    pub fn read(text: &str) -> Option<Self> {
        let levels: Vec<&str> = text.split('/').collect();
        let robot = |id: &str| is_robot_id(id).then(|| id.to_owned());
        let part = |id: &str| is_part(id).then(|| id.to_owned());
        Some(match levels.as_slice() {
            ["k8s4r", "register"] => Self::Register,
            ["k8s4r", "heartbeat"] => Self::Heartbeat,
            ["k8s4r", "response", id] => Self::FirstResponse(robot(id)?),
            ["k8s4r", "commands", id] => Self::Words(robot(id)?),
            ["k8s4r", "robots", id, "register"] => Self::OwnRegister(robot(id)?),
            ["k8s4r", "robots", id, "heartbeat"] => Self::OwnHeartbeat(robot(id)?),
            ["k8s4r", "robots", id, "response"] => Self::Response(robot(id)?),
            ["k8s4r", "robots", id, "presence"] => Self::Presence(robot(id)?),
            ["k8s4r", "robots", id, "desired"] => Self::Desired(robot(id)?),
            ["k8s4r", "robots", id, "reports"] => Self::Reports(robot(id)?),
            ["k8s4r", "robots", id, "reports", "ack"] => Self::Acknowledged(robot(id)?),
            ["k8s4r", "robots", id, "credential"] => Self::Credential(robot(id)?),
            ["k8s4r", "robots", id, "logs", "request"] => Self::LogRequest(robot(id)?),
            ["k8s4r", "robots", id, "logs", "answer", request] => {
                Self::LogChunk(robot(id)?, part(request)?)
            }
            ["k8s4r", "robots", id, "tasks", "dispatch"] => Self::Dispatch(robot(id)?),
            ["k8s4r", "robots", id, "tasks", "state"] => Self::State(robot(id)?),
            ["k8s4r", "robots", id, "tasks", uid, "status"] => Self::Status(robot(id)?, part(uid)?),
            ["robots", id, "tasks", "dispatch"] => Self::FirstDispatch(robot(id)?),
            ["robots", id, "tasks", uid, "status"] => Self::FirstStatus(robot(id)?, part(uid)?),
            _ => return None,
        })
    }

    /// The robot that the topic names.
    pub fn robot(&self) -> Option<&str> {
        match self {
            Self::Register | Self::Heartbeat => None,
            Self::OwnRegister(id)
            | Self::OwnHeartbeat(id)
            | Self::Response(id)
            | Self::FirstResponse(id)
            | Self::Presence(id)
            | Self::Desired(id)
            | Self::Reports(id)
            | Self::Acknowledged(id)
            | Self::Credential(id)
            | Self::LogRequest(id)
            | Self::LogChunk(id, _)
            | Self::Dispatch(id)
            | Self::FirstDispatch(id)
            | Self::Words(id)
            | Self::Status(id, _)
            | Self::FirstStatus(id, _)
            | Self::State(id) => Some(id),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register => f.write_str("k8s4r/register"),
            Self::Heartbeat => f.write_str("k8s4r/heartbeat"),
            Self::OwnRegister(id) => write!(f, "k8s4r/robots/{id}/register"),
            Self::OwnHeartbeat(id) => write!(f, "k8s4r/robots/{id}/heartbeat"),
            Self::Response(id) => write!(f, "k8s4r/robots/{id}/response"),
            Self::FirstResponse(id) => write!(f, "k8s4r/response/{id}"),
            Self::Presence(id) => write!(f, "k8s4r/robots/{id}/presence"),
            Self::Desired(id) => write!(f, "k8s4r/robots/{id}/desired"),
            Self::Reports(id) => write!(f, "k8s4r/robots/{id}/reports"),
            Self::Acknowledged(id) => write!(f, "k8s4r/robots/{id}/reports/ack"),
            Self::Credential(id) => write!(f, "k8s4r/robots/{id}/credential"),
            Self::LogRequest(id) => write!(f, "k8s4r/robots/{id}/logs/request"),
            Self::LogChunk(id, request) => {
                write!(f, "k8s4r/robots/{id}/logs/answer/{request}")
            }
            Self::Dispatch(id) => write!(f, "k8s4r/robots/{id}/tasks/dispatch"),
            Self::FirstDispatch(id) => write!(f, "robots/{id}/tasks/dispatch"),
            Self::Words(id) => write!(f, "k8s4r/commands/{id}"),
            Self::Status(id, uid) => write!(f, "k8s4r/robots/{id}/tasks/{uid}/status"),
            Self::FirstStatus(id, uid) => write!(f, "robots/{id}/tasks/{uid}/status"),
            Self::State(id) => write!(f, "k8s4r/robots/{id}/tasks/state"),
        }
    }
}

/// What somebody subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter(pub &'static str);

impl Filter {
    /// Everything the bridge listens to. Robots' status topics of the published protocol are in
    /// the last two.
    pub const BRIDGE: [Filter; 10] = [
        Filter("k8s4r/register"),
        Filter("k8s4r/heartbeat"),
        Filter("k8s4r/robots/+/register"),
        Filter("k8s4r/robots/+/heartbeat"),
        Filter("k8s4r/robots/+/presence"),
        Filter("k8s4r/robots/+/reports"),
        Filter("k8s4r/robots/+/credential"),
        Filter("k8s4r/robots/+/logs/answer/+"),
        Filter("k8s4r/robots/+/tasks/+/status"),
        Filter("robots/+/tasks/+/status"),
    ];
}

/// Whether a text can be one level of a topic: a uid or a request's id.
fn is_part(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
