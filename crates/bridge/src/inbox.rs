//! What robots say, read and checked: nothing beyond here trusts a topic or a payload.

use sandlot_api::robot::{
    is_robot_id,
    wire::{
        Beat, LONGEST_MESSAGE, LogChunk, Presence, Registration, Reports, RotatedCredential, Topic,
        upstream::Status,
    },
};
use serde::de::DeserializeOwned;

/// The most reports that one message may hold.
const REPORTS: usize = 1000;

/// Something a robot said.
#[derive(Debug)]
pub(crate) struct Said {
    /// The robot, by its topic where the topic says so.
    pub(crate) robot: String,
    /// Whether the robot's own login is what let it say so, rather than its word alone.
    pub(crate) own: bool,
    pub(crate) what: What,
}

/// What was said.
pub(crate) enum What {
    Register(Box<Registration>),
    Beat(Box<Beat>),
    Presence(Presence),
    Reports(Reports),
    Credential(RotatedCredential),
    LogChunk(String, LogChunk),
    Status(Box<Status>),
}

impl std::fmt::Debug for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Register(_) => "registration",
            Self::Beat(_) => "beat",
            Self::Presence(_) => "presence",
            Self::Reports(_) => "reports",
            Self::Credential(_) => "credential",
            Self::LogChunk(..) => "log chunk",
            Self::Status(_) => "status",
        })
    }
}

/// Why something said is not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// Nobody says anything there.
    Topic,
    /// It is too long.
    TooLong,
    /// It is not what is said there.
    Malformed,
    /// The robot in it can be none.
    RobotId,
    /// It speaks of another robot than its topic.
    Spoofed,
}

impl Refusal {
    /// The word for it, in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::RobotId => "robot_id",
            Self::Spoofed => "spoofed",
        }
    }
}

/// Reads what was said; nothing where there is nothing to hear, such as a retained message that
/// was taken back.
pub(crate) fn read(topic: &str, payload: &[u8]) -> Result<Option<Said>, Refusal> {
    let topic = Topic::read(topic).ok_or(Refusal::Topic)?;
    if payload.len() > LONGEST_MESSAGE {
        return Err(Refusal::TooLong);
    }
    if payload.is_empty() {
        return Ok(None);
    }
    let said = |robot: String, own: bool, what: What| Ok(Some(Said { robot, own, what }));
    match topic {
        Topic::Register => {
            let registration: Registration = json(payload)?;
            let robot = named(&registration.robot_id)?;
            said(robot, false, What::Register(Box::new(registration)))
        }
        Topic::OwnRegister(robot) => {
            let registration: Registration = json(payload)?;
            same(&registration.robot_id, &robot)?;
            said(robot, true, What::Register(Box::new(registration)))
        }
        Topic::Heartbeat => {
            let beat: Beat = json(payload)?;
            said(named(&beat.robot_id)?, false, What::Beat(Box::new(beat)))
        }
        Topic::OwnHeartbeat(robot) => {
            let beat: Beat = json(payload)?;
            same(&beat.robot_id, &robot)?;
            said(robot, true, What::Beat(Box::new(beat)))
        }
        Topic::Presence(robot) => said(robot, true, What::Presence(json(payload)?)),
        Topic::Reports(robot) => {
            let reports: Reports = json(payload)?;
            if reports.reports.len() > REPORTS || reports.spool.len() > 64 {
                return Err(Refusal::TooLong);
            }
            said(robot, true, What::Reports(reports))
        }
        Topic::Credential(robot) => said(robot, true, What::Credential(json(payload)?)),
        Topic::LogChunk(robot, request) => {
            said(robot, true, What::LogChunk(request, json(payload)?))
        }
        Topic::Status(robot, uid) | Topic::FirstStatus(robot, uid) => {
            let mut status: Status = json(payload)?;
            same(&status.robot_name, &robot)?;
            if status.task_uid.is_empty() {
                status.task_uid = uid;
            } else if status.task_uid != uid {
                return Err(Refusal::Spoofed);
            }
            said(robot, false, What::Status(Box::new(status)))
        }
        // What only the bridge itself says.
        _ => Err(Refusal::Topic),
    }
}

fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(payload).map_err(|_| Refusal::Malformed)
}

fn named(robot: &str) -> Result<String, Refusal> {
    match is_robot_id(robot) {
        true => Ok(robot.to_owned()),
        false => Err(Refusal::RobotId),
    }
}

/// A payload may leave the robot out, and may not name another.
fn same(said: &str, robot: &str) -> Result<(), Refusal> {
    match said.is_empty() || said == robot {
        true => Ok(()),
        false => Err(Refusal::Spoofed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_payloads_are_read() {
        let register = br#"{"robotId":"arm-1","token":"t","deviceInfo":{"os":"linux"}}"#;
        let said = read("k8s4r/register", register).unwrap().unwrap();
        assert_eq!(said.robot, "arm-1");
        assert!(!said.own);
        let status = br#"{"taskUid":"u1","robotName":"arm-1","state":"running","exitCode":0,"updatedAt":"2025-01-01T00:00:00Z"}"#;
        for topic in [
            "robots/arm-1/tasks/u1/status",
            "k8s4r/robots/arm-1/tasks/u1/status",
        ] {
            let said = read(topic, status).unwrap().unwrap();
            assert!(matches!(said.what, What::Status(_)), "{topic}");
        }
    }

    #[test]
    fn what_is_bad_is_refused_with_a_word_for_it() {
        let long = vec![b' '; LONGEST_MESSAGE + 1];
        let bad: [(&str, &[u8], Refusal); 8] = [
            ("k8s4r/register", b"{", Refusal::Malformed),
            ("k8s4r/register", br#"{"robotId":"a/b"}"#, Refusal::RobotId),
            ("k8s4r/register", br#"{"robotId":"+"}"#, Refusal::RobotId),
            ("k8s4r/register", &long, Refusal::TooLong),
            (
                "k8s4r/robots/arm-1/heartbeat",
                br#"{"robotId":"arm-2"}"#,
                Refusal::Spoofed,
            ),
            (
                "robots/arm-1/tasks/u1/status",
                br#"{"taskUid":"u2"}"#,
                Refusal::Spoofed,
            ),
            ("k8s4r/robots/arm-1/desired", b"{}", Refusal::Topic),
            ("somewhere/else", b"{}", Refusal::Topic),
        ];
        for (topic, payload, refusal) in bad {
            assert_eq!(
                read(topic, payload).map(drop).unwrap_err(),
                refusal,
                "{topic}"
            );
        }
        assert!(read("k8s4r/robots/arm-1/presence", b"").unwrap().is_none());
    }

    #[test]
    fn deep_nonsense_is_refused_and_does_not_overflow() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(read("k8s4r/register", &deep).is_err());
    }
}
