//! Who may log in, and who may say and hear what.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use rumqttc::matches;
use sandlot_api::robot::{Credential, is_robot_id, names, wire::Topic};
use sha2::{Digest, Sha256};

/// Who has logged in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Login {
    /// The bridge.
    Bridge,
    /// A robot with a credential of its own.
    Robot(String),
    /// Somebody with the bootstrap token: a robot that is about to register.
    Bootstrap,
    /// A robot of the published protocol, which has no login.
    Anonymous,
}

/// What somebody wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Say something there.
    Publish,
    /// Hear what is said there; the topic may be a filter.
    Subscribe,
}

/// The user name of the bridge.
pub const BRIDGE: &str = names::BRIDGE_LOGIN;
/// The user name of robots that are about to register.
pub const BOOTSTRAP: &str = names::BOOTSTRAP_LOGIN;

/// What a robot may say, below its own level of the topics.
pub(super) const SAYS: [&str; 7] = [
    "register",
    "heartbeat",
    "presence",
    "reports",
    "credential",
    "logs/answer/+",
    "tasks/+/status",
];
/// What a robot may hear, below its own level of the topics.
pub(super) const HEARS: [&str; 6] = [
    "response",
    "desired",
    "reports/ack",
    "logs/request",
    "tasks/dispatch",
    "tasks/state",
];
/// What a robot of the published protocol may say; any of them may say it of any.
pub(super) const ANONYMOUS_SAYS: [&str; 4] = [
    "k8s4r/register",
    "k8s4r/heartbeat",
    "k8s4r/robots/+/tasks/+/status",
    "robots/+/tasks/+/status",
];
/// What a robot of the published protocol may hear.
pub(super) const ANONYMOUS_HEARS: [&str; 6] = [
    "k8s4r/response/+",
    "k8s4r/commands/+",
    "k8s4r/robots/+/response",
    "k8s4r/robots/+/tasks/dispatch",
    "k8s4r/robots/+/tasks/state",
    "robots/+/tasks/dispatch",
];

impl Login {
    /// Whether somebody may do something with a topic or filter.
    pub fn may(&self, right: Right, topic: &str) -> bool {
        let within = |allowed: &[&str]| allowed.iter().any(|filter| covers(filter, topic));
        match (self, right) {
            (Self::Bridge, _) => !topic.starts_with('$'),
            (Self::Robot(id), right) => {
                let own = topic
                    .strip_prefix("k8s4r/robots/")
                    .and_then(|rest| rest.strip_prefix(id.as_str()));
                let Some(rest) = own.and_then(|rest| rest.strip_prefix('/')) else {
                    return false;
                };
                let allowed: &[&str] = match right {
                    Right::Publish => &SAYS,
                    Right::Subscribe => &HEARS,
                };
                allowed.iter().any(|filter| covers(filter, rest))
            }
            (Self::Bootstrap, Right::Publish) => topic == Topic::Register.to_string(),
            // What is answered there holds no secret; a robot needs only its own.
            (Self::Bootstrap, Right::Subscribe) => {
                !topic.contains(['+', '#']) && covers("k8s4r/robots/+/response", topic)
            }
            (Self::Anonymous, Right::Publish) => within(&ANONYMOUS_SAYS),
            (Self::Anonymous, Right::Subscribe) => {
                !topic.contains(['+', '#']) && within(&ANONYMOUS_HEARS)
            }
        }
    }
}

/// Whether everything that a topic or filter stands for is within another filter.
fn covers(filter: &str, topic: &str) -> bool {
    let (mut allowed, mut asked) = (filter.split('/'), topic.split('/'));
    loop {
        match (allowed.next(), asked.next()) {
            (None, None) => return true,
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(known), Some(level)) if known == level => {}
            _ => return false,
        }
    }
}

/// What the robots' credentials hash to; shared between the bridge, who keeps it, and the broker,
/// who asks it.
#[derive(Clone, Default)]
pub struct Robots(Arc<RwLock<HashMap<String, Known>>>);

/// What is known of a robot's credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    hashes: Vec<String>,
}

impl Robots {
    /// The credential of a robot is this now; nothing lets it in if there is none. Says whether
    /// that is news.
    pub fn set(&self, robot: &str, credential: Option<&Credential>) -> bool {
        let known = credential.map(|credential| Known {
            hashes: std::iter::once(&credential.sha256)
                .chain(&credential.previous_sha256)
                .cloned()
                .collect(),
        });
        // Nothing that holds the lock can panic.
        let Ok(mut robots) = self.0.write() else {
            return false;
        };
        let before = match known.clone() {
            Some(known) => robots.insert(robot.to_owned(), known),
            None => robots.remove(robot),
        };
        before != known
    }

    /// Whether a credential is a robot's own.
    pub fn is(&self, robot: &str, credential: &str) -> bool {
        let hash = hash(credential);
        let Ok(robots) = self.0.read() else {
            return false;
        };
        robots
            .get(robot)
            .is_some_and(|known| known.hashes.contains(&hash))
    }

    /// Whether a robot has a credential of its own.
    pub fn has(&self, robot: &str) -> bool {
        self.0.read().is_ok_and(|robots| robots.contains_key(robot))
    }
}

/// What a credential hashes to.
pub fn hash(credential: &str) -> String {
    let digest = Sha256::digest(credential.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All that can be logged in with.
#[derive(Clone)]
pub struct Keyring {
    /// The bridge's password.
    pub bridge: String,
    /// The bootstrap token.
    pub bootstrap: Option<String>,
    /// Whether robots of the published protocol may come without a login.
    pub anonymous: bool,
    /// The robots' own credentials.
    pub robots: Robots,
}

impl Keyring {
    /// Who somebody is, by name and password.
    pub fn login(&self, name: Option<&str>, password: &str) -> Option<Login> {
        let Some(name) = name else {
            return self.anonymous.then_some(Login::Anonymous);
        };
        match name {
            // Hashes are compared, so that how long it takes says nothing of the password.
            BRIDGE => (hash(password) == hash(&self.bridge)).then_some(Login::Bridge),
            BOOTSTRAP => {
                let token = self.bootstrap.as_ref()?;
                (hash(password) == hash(token)).then_some(Login::Bootstrap)
            }
            robot if is_robot_id(robot) && self.robots.is(robot, password) => {
                Some(Login::Robot(robot.to_owned()))
            }
            _ => None,
        }
    }
}

/// Whether a topic is one that a filter asks for. Topics of the broker's own are for nobody who
/// does not name them.
pub(super) fn hears(filter: &str, topic: &str) -> bool {
    (!topic.starts_with('$') || filter.starts_with('$')) && matches(topic, filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn robot(id: &str) -> Login {
        Login::Robot(id.to_owned())
    }

    #[test]
    fn a_robot_says_and_hears_its_own_and_nothing_else() {
        let arm = robot("arm-1");
        for said in [
            "reports",
            "heartbeat",
            "presence",
            "tasks/7f/status",
            "logs/answer/9",
        ] {
            assert!(
                arm.may(Right::Publish, &format!("k8s4r/robots/arm-1/{said}")),
                "{said}"
            );
            assert!(
                !arm.may(Right::Publish, &format!("k8s4r/robots/arm-2/{said}")),
                "{said}"
            );
            assert!(
                !arm.may(Right::Subscribe, &format!("k8s4r/robots/arm-1/{said}")),
                "{said}"
            );
        }
        for heard in ["desired", "response", "reports/ack", "tasks/dispatch"] {
            assert!(
                arm.may(Right::Subscribe, &format!("k8s4r/robots/arm-1/{heard}")),
                "{heard}"
            );
            assert!(
                !arm.may(Right::Subscribe, &format!("k8s4r/robots/arm-10/{heard}")),
                "{heard}"
            );
            assert!(
                !arm.may(Right::Publish, &format!("k8s4r/robots/arm-1/{heard}")),
                "{heard}"
            );
        }
        for filter in [
            "#",
            "+/#",
            "k8s4r/#",
            "k8s4r/robots/+/desired",
            "k8s4r/robots/arm-1/#",
            "k8s4r/register",
            "$SYS/#",
        ] {
            assert!(!arm.may(Right::Subscribe, filter), "{filter}");
            assert!(!arm.may(Right::Publish, filter), "{filter}");
        }
    }

    #[test]
    fn who_only_has_the_bootstrap_token_can_register_and_no_more() {
        let somebody = Login::Bootstrap;
        assert!(somebody.may(Right::Publish, "k8s4r/register"));
        assert!(somebody.may(Right::Subscribe, "k8s4r/robots/arm-1/response"));
        for topic in [
            "k8s4r/register",
            "k8s4r/robots/+/response",
            "#",
            "k8s4r/robots/arm-1/desired",
        ] {
            assert!(!somebody.may(Right::Subscribe, topic), "{topic}");
        }
        assert!(!somebody.may(Right::Publish, "k8s4r/robots/arm-1/reports"));
    }

    #[test]
    fn only_what_hashes_to_what_is_kept_lets_a_robot_in() {
        let robots = Robots::default();
        let credential = Credential {
            sha256: hash("new"),
            previous_sha256: Some(hash("old")),
            ..Credential::default()
        };
        assert!(robots.set("arm-1", Some(&credential)));
        assert!(
            !robots.set("arm-1", Some(&credential)),
            "the same again is no news"
        );
        let keys = Keyring {
            bridge: "b".to_owned(),
            bootstrap: Some("t".to_owned()),
            anonymous: false,
            robots: robots.clone(),
        };
        for password in ["new", "old"] {
            assert_eq!(keys.login(Some("arm-1"), password), Some(robot("arm-1")));
        }
        for (name, password) in [
            ("arm-1", "other"),
            ("arm-2", "new"),
            ("bootstrap", "b"),
            ("sandlot-bridge", "t"),
            ("", ""),
        ] {
            assert_eq!(keys.login(Some(name), password), None, "{name}");
        }
        assert_eq!(keys.login(None, ""), None);
        robots.set("arm-1", None);
        assert_eq!(keys.login(Some("arm-1"), "new"), None);
    }
}
