//! Whether a robot may register, and what is written down of it: decided here, carried out
//! elsewhere.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::robot::{
    Credential, DeviceInfo, Robot, RobotSpec, RobotStatus,
    wire::{Registration, SHORTEST_CREDENTIAL},
};

use crate::broker::hash;

/// For how long it is no news that a robot has registered once more.
const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// What a robot may register with.
pub(crate) struct Rules<'a> {
    /// The bootstrap token.
    pub(crate) token: Option<&'a str>,
    /// Robots without a credential are listened to.
    pub(crate) published: bool,
}

/// Why a robot may not register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Denied {
    /// It has not brought the right token.
    Token,
    /// Another robot with a credential has this id.
    Taken,
    /// Somebody keeps it out.
    KeptOut,
    /// Its credential is too short to be safe.
    Weak,
    /// It brings no credential, and robots without are not listened to.
    NoCredential,
}

impl Denied {
    /// What the robot is told.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Token => "the token is wrong",
            Self::Taken => {
                "a robot with this id is registered already and has its own credential: use that, or have spec.credential.renew set on it"
            }
            Self::KeptOut => {
                "this robot is kept out: its spec.approved is false, or its credential is revoked"
            }
            Self::Weak => "choose a credential of at least 32 random bytes",
            Self::NoCredential => {
                "robots without a credential of their own are not listened to here"
            }
        }
    }

    /// The word for it, in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Taken => "taken",
            Self::KeptOut => "kept_out",
            Self::Weak => "weak_credential",
            Self::NoCredential => "no_credential",
        }
    }
}

/// Decides about a registration. `own` says that the robot's own login let it say so.
pub(crate) fn admit(
    rules: &Rules<'_>,
    asked: &Registration,
    own: bool,
    known: Option<&Robot>,
) -> Result<(), Denied> {
    let status = known.and_then(|robot| robot.status.as_ref());
    let credential = status.and_then(|status| status.credential.as_ref());
    let wish = known.and_then(|robot| robot.spec.credential.as_ref());
    let spec = known.map(|robot| &robot.spec);
    if spec.is_some_and(|spec| spec.approved == Some(false))
        || wish.is_some_and(|wish| wish.revoked == Some(true) && wish.renew != Some(true))
    {
        return Err(Denied::KeptOut);
    }
    let brought = asked.token.as_deref().unwrap_or("");
    let bootstrap = rules
        .token
        .is_some_and(|token| hash(token) == hash(brought));
    // Its own credential proves a robot, whether it brings it as its token or, because it has not
    // heard that it was taken, chooses it once more.
    let is_known = |brought: &str| {
        let brought = hash(brought);
        credential.is_some_and(|known| {
            known.sha256 == brought || known.previous_sha256.as_ref() == Some(&brought)
        })
    };
    let chosen_before = asked.credential.as_deref().is_some_and(is_known);
    let is_own = is_known(brought) || (bootstrap && chosen_before);
    if !own && !is_own && !bootstrap {
        return Err(Denied::Token);
    }
    // The bootstrap token is everybody's: it must not take over a robot that has its own.
    let renew = wish.is_some_and(|wish| wish.renew == Some(true));
    if credential.is_some() && !own && !is_own && !renew {
        return Err(Denied::Taken);
    }
    match &asked.credential {
        Some(chosen) if chosen.len() < SHORTEST_CREDENTIAL => Err(Denied::Weak),
        None if credential.is_none() && !rules.published => Err(Denied::NoCredential),
        _ => Ok(()),
    }
}

/// A robot that is registered for the first time.
pub(crate) fn new_spec(asked: &Registration) -> RobotSpec {
    RobotSpec {
        robot_id: asked.robot_id.clone(),
        description: Some("Registered by agent".to_owned()),
        labels: asked
            .labels
            .clone()
            .filter(|labels| !labels.is_empty() && labels.len() <= 64),
        ..RobotSpec::default()
    }
}

/// Whether it is so short a time since a robot has registered that doing so again is no news.
pub(crate) fn is_fresh(status: &RobotStatus, now: Timestamp) -> bool {
    let registered = status.registered_at.as_ref();
    registered.is_some_and(|at| now.duration_since(at.0).abs() < FRESH)
}

/// What a registration says of the robot, beside where it stands.
pub(crate) fn describe(status: &mut RobotStatus, asked: &Registration, now: Timestamp) {
    let sent = (!asked.device_info.is_null()).then(|| DeviceInfo::read(&asked.device_info));
    let known = status.device_info.as_ref();
    let same = |sent: &DeviceInfo| known.is_some_and(|known| known.lasting() == sent.lasting());
    if let Some(sent) = sent.filter(|sent| !is_fresh(status, now) || !same(sent)) {
        status.device_info = Some(sent);
    }
    status.registered_at = Some(Time(now));
    status.agent.clone_from(&asked.agent);
    status.protocol = asked.protocol;
    status.drivers.clone_from(&asked.drivers);
    if let Some(chosen) = &asked.credential {
        let revision = status.credential.as_ref().map_or(1, |known| known.revision);
        take_credential(status, chosen, revision, now);
    }
}

/// The robot's credential is this from now on; the one before stays good until it comes with the
/// new one.
pub(crate) fn take_credential(
    status: &mut RobotStatus,
    chosen: &str,
    revision: i64,
    now: Timestamp,
) {
    let sha256 = hash(chosen);
    let before = status.credential.take();
    if let Some(known) = before.as_ref().filter(|known| known.sha256 == sha256) {
        status.credential = Some(Credential {
            revision,
            ..known.clone()
        });
        return;
    }
    status.credential = Some(Credential {
        sha256,
        revision,
        issued_at: Some(Time(now)),
        previous_sha256: before.map(|known| known.sha256),
    });
}

#[cfg(test)]
mod tests {
    use sandlot_api::robot::CredentialWish;

    use super::*;

    const RULES: Rules<'_> = Rules {
        token: Some("bootstrap"),
        published: true,
    };

    fn asks(token: &str, credential: Option<&str>) -> Registration {
        Registration {
            robot_id: "arm-1".to_owned(),
            token: Some(token.to_owned()),
            credential: credential.map(str::to_owned),
            ..Registration::default()
        }
    }

    fn known(credential: Option<&str>) -> Robot {
        let mut robot = Robot::new("arm-1", RobotSpec::default());
        let mut status = RobotStatus::default();
        if let Some(credential) = credential {
            take_credential(&mut status, credential, 1, Timestamp::UNIX_EPOCH);
        }
        robot.status = Some(status);
        robot
    }

    #[test]
    fn only_the_token_lets_a_new_robot_in() {
        assert_eq!(admit(&RULES, &asks("bootstrap", None), false, None), Ok(()));
        assert_eq!(
            admit(&RULES, &asks("guess", None), false, None),
            Err(Denied::Token)
        );
        assert_eq!(
            admit(&RULES, &asks("", None), false, None),
            Err(Denied::Token)
        );
        let closed = Rules {
            token: None,
            ..RULES
        };
        assert_eq!(
            admit(&closed, &asks("", None), false, None),
            Err(Denied::Token)
        );
    }

    #[test]
    fn the_token_does_not_take_over_a_robot_with_a_credential() {
        let mut robot = known(Some("its own"));
        let taken = admit(&RULES, &asks("bootstrap", None), false, Some(&robot));
        assert_eq!(taken, Err(Denied::Taken));
        assert_eq!(
            admit(&RULES, &asks("its own", None), false, Some(&robot)),
            Ok(())
        );
        assert_eq!(admit(&RULES, &asks("", None), true, Some(&robot)), Ok(()));
        // It has not heard that it is registered, and says the same again.
        let own = "0".repeat(SHORTEST_CREDENTIAL);
        let registered = known(Some(&own));
        let again = asks("bootstrap", Some(&own));
        assert_eq!(admit(&RULES, &again, false, Some(&registered)), Ok(()));
        robot.spec.credential = Some(CredentialWish {
            renew: Some(true),
            ..CredentialWish::default()
        });
        assert_eq!(
            admit(&RULES, &asks("bootstrap", None), false, Some(&robot)),
            Ok(())
        );
    }

    #[test]
    fn who_is_kept_out_stays_out() {
        let mut robot = known(None);
        robot.spec.approved = Some(false);
        let denied = admit(&RULES, &asks("bootstrap", None), false, Some(&robot));
        assert_eq!(denied, Err(Denied::KeptOut));
        let mut robot = known(Some("its own"));
        robot.spec.credential = Some(CredentialWish {
            revoked: Some(true),
            ..CredentialWish::default()
        });
        let denied = admit(&RULES, &asks("its own", None), true, Some(&robot));
        assert_eq!(denied, Err(Denied::KeptOut));
    }

    #[test]
    fn what_passes_is_no_news_of_a_robot_that_has_just_registered() {
        let asks = |used: u64, total: u64| Registration {
            device_info: serde_json::json!({ "memory": { "total": total, "used": used } }),
            ..asks("bootstrap", None)
        };
        let minute = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let mut status = RobotStatus::default();
        let mut used_after = |asked: &Registration, now| {
            describe(&mut status, asked, now);
            let memory = status
                .device_info
                .as_ref()
                .and_then(|info| info.memory.clone());
            memory.unwrap().used
        };
        assert_eq!(used_after(&asks(1, 8), minute(0)), 1);
        assert_eq!(used_after(&asks(2, 8), minute(0)), 1, "it has just said so");
        assert_eq!(used_after(&asks(3, 9), minute(0)), 3, "this lasts");
        assert_eq!(used_after(&asks(4, 9), minute(6)), 4, "that was long ago");
    }

    #[test]
    fn a_short_credential_is_refused_and_an_old_one_stays_good_for_a_moment() {
        let denied = admit(&RULES, &asks("bootstrap", Some("short")), false, None);
        assert_eq!(denied, Err(Denied::Weak));
        let mut status = RobotStatus::default();
        take_credential(&mut status, "first", 1, Timestamp::UNIX_EPOCH);
        take_credential(&mut status, "second", 2, Timestamp::UNIX_EPOCH);
        let credential = status.credential.unwrap();
        assert_eq!(credential.sha256, hash("second"));
        assert_eq!(credential.previous_sha256, Some(hash("first")));
    }
}
