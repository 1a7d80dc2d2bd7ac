//! Whether a robot is there.
//!
//! Times are the listener's own: a robot whose clock is wrong is as alive as any other.

use std::time::Duration;

use jiff::Timestamp;
use sandlot_api::robot::{RobotPhase, wire::PresenceState};

use crate::expiry::later;

/// What is remembered of a robot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// When it was last heard of.
    pub heard: Option<Timestamp>,
    /// Since when it is waited for, if nobody knows where it is: no bridge has heard it for a while.
    pub awaited: Option<Timestamp>,
    /// Its connection, if it has said anything of it.
    pub link: Option<Link>,
}

/// What a robot has said of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it is connected.
    pub state: PresenceState,
    /// Which connection that was.
    pub session: i64,
}

/// The message of a robot whose beats have stopped, in the document's words.
pub const TIMEOUT: &str = "Heartbeat timeout";
/// The message of a robot whose connection broke.
pub const BROKEN: &str = "Connection lost";
/// The message of a robot that nobody listens to.
pub const UNHEARD: &str = "No bridge listens";
/// The message of a robot that has left.
pub const LEFT: &str = "Disconnected";

impl Pulse {
    /// It beat, or said anything else: whatever its will said before is over.
    pub fn beat(&mut self, now: Timestamp) {
        self.heard = Some(now);
        if let Some(link) = &mut self.link {
            link.state = PresenceState::Online;
        }
    }

    /// It said something of its connection, or its will did. One about an earlier connection
    /// than the latest says nothing any more.
    pub fn tell(&mut self, link: Link, now: Timestamp) {
        if self.link.is_some_and(|known| link.session < known.session) {
            return;
        }
        if link.state == PresenceState::Online {
            self.heard = Some(now);
        }
        self.link = Some(link);
    }

    /// Where the robot stands, and why.
    pub fn phase(&self, now: Timestamp, timeout: Duration) -> (RobotPhase, &'static str) {
        let Some(since) = self.heard.or(self.awaited) else {
            return (RobotPhase::Pending, "Waiting for the robot to register");
        };
        match self.link.map(|link| link.state) {
            Some(PresenceState::ConnectionBroken) => (RobotPhase::Offline, BROKEN),
            Some(PresenceState::Offline) => (RobotPhase::Offline, LEFT),
            _ if later(since, timeout) <= now => (RobotPhase::Offline, TIMEOUT),
            _ if self.heard.is_none() => (RobotPhase::Unknown, UNHEARD),
            _ => (RobotPhase::Online, ""),
        }
    }

    /// When its beats will have stopped for too long, if none comes.
    pub fn due(&self, timeout: Duration) -> Option<Timestamp> {
        let since = self.heard.or(self.awaited);
        since.map(|since| later(since, timeout))
    }
}
