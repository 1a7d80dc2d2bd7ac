//! What is said over MQTT between the cluster and the robots.
//!
//! The cluster tells each robot what it wants of it in one retained document ([`Desired`]): that
//! is the truth, whenever it is read. A robot says what has become of it in numbered reports
//! ([`Reports`]), which it keeps until they are acknowledged ([`Acknowledged`]), so that none is
//! lost and none counts twice. Whatever is said again means the same again.
//!
//! - [`Topic`]: where what is said.
//! - [`Registration`], [`Beat`], [`Presence`]: that a robot is there.
//! - [`Desired`]: what it is to do.
//! - [`Reports`]: what has become of it.
//! - [`LogRequest`], [`LogChunk`]: what its tasks print.
//! - [`upstream`]: the same as older agents and servers say it.

mod desired;
mod logs;
mod presence;
mod report;
mod topic;
pub mod upstream;

pub use desired::{Desired, DesiredCommand, DesiredDeployment, DesiredTask, GroupPlace};
pub use logs::{LogChunk, LogRequest, LogStream};
pub use presence::{Beat, Presence, PresenceState, Registered, Registration, RotatedCredential};
pub use report::{
    Acknowledged, AttemptKey, CommandReport, DeploymentReport, InitReport, News, Report, Reports,
    TaskReport,
};
pub use topic::{Filter, Topic};

/// The protocol spoken here, beyond the published one.
pub const PROTOCOL: i64 = 1;

/// The longest message that anybody may send, in bytes.
pub const LONGEST_MESSAGE: usize = 1024 * 1024;

/// How much of a robot's document tasks, commands and versions of programs may take, each.
pub const ROOM_FOR_TASKS: usize = LONGEST_MESSAGE / 2;
/// See [`ROOM_FOR_TASKS`].
pub const ROOM_FOR_COMMANDS: usize = LONGEST_MESSAGE / 8;
/// See [`ROOM_FOR_TASKS`].
pub const ROOM_FOR_DEPLOYMENTS: usize = LONGEST_MESSAGE / 4;

/// The longest packet that is kept, in bytes: one with a message that is too long is cut here, where
/// it still shows that it was. Topics have at most 64 KiB.
pub const LONGEST_PACKET: usize = LONGEST_MESSAGE + 128 * 1024;

/// The most bytes of each output stream of a task that go into a report.
pub const LOG_TAIL: usize = 5 * 1024;

/// The most bytes of a command's output that go into a report.
pub const COMMAND_OUTPUT: usize = 4 * 1024;

/// The shortest credential that is accepted, in characters: 32 random bytes in base64.
pub const SHORTEST_CREDENTIAL: usize = 43;

#[cfg(test)]
mod tests;
