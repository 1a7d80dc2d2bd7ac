//! Where a robot stands, written down when that changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sandlot_api::robot::{
    DeviceInfo, InstalledDeployment, Robot, RobotPhase, RobotStatus,
    wire::{DeploymentReport, Registration, RotatedCredential, SHORTEST_CREDENTIAL},
};
use sandlot_decide::robots::{course::end_of, liveness::Pulse};
use serde_json::json;

use super::{
    registration::{self, is_fresh},
    settings::Approval,
    sights::Kind,
    work::Bridge,
    writes::{What, status_patch},
};

/// The message of a robot that somebody has to approve.
const APPROVAL: &str = "Waiting for approval: set spec.approved to true";
/// The message of a robot that is kept out.
const KEPT_OUT: &str = "Kept out: spec.approved is false";
/// How many deployments of a robot are remembered.
const DEPLOYMENTS: usize = 64;

/// What a robot said of itself that is not written down yet.
#[derive(Default)]
pub(crate) struct News {
    pub(crate) registration: Option<Registration>,
    pub(crate) device: Option<DeviceInfo>,
    pub(crate) rotated: Option<RotatedCredential>,
    /// With the numbers of the reports they came in.
    pub(crate) deployments: Vec<(DeploymentReport, (String, i64))>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.registration.is_none()
            && self.device.is_none()
            && self.rotated.is_none()
            && self.deployments.is_empty()
    }

    /// Puts back what could not be written, under what has come since.
    fn restore(&mut self, old: News) {
        self.registration = self.registration.take().or(old.registration);
        self.device = self.device.take().or(old.device);
        self.rotated = self.rotated.take().or(old.rotated);
        let newer = std::mem::replace(&mut self.deployments, old.deployments);
        self.deployments.extend(newer);
    }
}

impl Bridge {
    /// Writes down where a robot stands, if that is news.
    pub(crate) fn look_at_robot(&mut self, name: &str, now: Timestamp) {
        if self.must_wait(Kind::Robot, name, now) {
            return;
        }
        let news = self.news.remove(name).unwrap_or_default();
        let Some(robot) = self.index.robots.get(name).cloned() else {
            self.make_robot(name, news, now);
            return;
        };
        if news.registration.is_some() {
            // It has just said so itself; a will that is still on its way is about before.
            let timeout = self.settings.timeout;
            self.people.beat(name, now, timeout);
        }
        let before = robot.status.as_ref();
        let next = self.observe(&robot, &news, now);
        let credential = next.credential.clone().filter(|_| !is_revoked(&robot));
        if self.settings.robots.set(name, credential.as_ref())
            && let Some(door) = &self.settings.door
            && is_revoked(&robot)
        {
            door.put_out(name);
        }
        self.keep_password(name, &robot, &news);
        let mut settled = next.clone();
        // That it was heard of is no news by itself, nor that it has registered once more: when
        // thousands have lost their connections, each does.
        settled.last_heartbeat_time = before.and_then(|before| before.last_heartbeat_time.clone());
        if let Some(known) = before.filter(|before| is_fresh(before, now)) {
            settled.registered_at.clone_from(&known.registered_at);
        }
        if before == Some(&settled) {
            self.news_written.insert(name.to_owned(), news);
            self.robot_written(name, true);
            return;
        }
        let patch = status_patch(&robot, before, &next);
        self.news_written.insert(name.to_owned(), news);
        self.write(Kind::Robot, name, What::Status(patch));
    }

    /// A robot that is not known has registered.
    fn make_robot(&mut self, name: &str, news: News, now: Timestamp) {
        let Some(asked) = &news.registration else {
            return;
        };
        let robot = Robot::new(name, registration::new_spec(asked));
        self.people.beat(name, now, self.settings.timeout);
        let status = self.observe(&robot, &news, now);
        self.settings.robots.set(name, status.credential.as_ref());
        self.keep_password(name, &robot, &news);
        let status = json!({ "status": status });
        let robot = Box::new(robot);
        self.news_written.insert(name.to_owned(), news);
        self.write(Kind::Robot, name, What::Register { robot, status });
    }

    /// What the robot logs in to Mosquitto with is what it has chosen.
    fn keep_password(&self, name: &str, robot: &Robot, news: &News) {
        let Some(passwords) = &self.passwords else {
            return;
        };
        let chosen = news
            .registration
            .as_ref()
            .and_then(|asked| asked.credential.as_deref());
        let rotated = news
            .rotated
            .as_ref()
            .map(|rotated| rotated.credential.as_str());
        if is_revoked(robot) {
            // A revoked robot stays in the index, and must not be written out again and again.
            let known = robot
                .status
                .as_ref()
                .and_then(|status| status.conditions.as_ref());
            let out = known.is_some_and(|all| all.iter().any(|one| one.reason == "Revoked"));
            if !out {
                passwords.remove(name);
            }
        } else if let Some(credential) = rotated.or(chosen) {
            passwords.set(name, credential);
        }
    }

    /// What a robot's status is now.
    fn observe(&self, robot: &Robot, news: &News, now: Timestamp) -> RobotStatus {
        let name = robot.metadata.name.as_deref().unwrap_or_default();
        let mut status = robot.status.clone().unwrap_or_default();
        if let Some(asked) = &news.registration {
            registration::describe(&mut status, asked, now);
        }
        if let Some(device) = &news.device {
            status.device_info = Some(device.clone());
        }
        if let Some(rotated) = &news.rotated
            && rotated.credential.len() >= SHORTEST_CREDENTIAL
        {
            registration::take_credential(&mut status, &rotated.credential, rotated.revision, now);
        }
        for (report, _) in &news.deployments {
            install(&mut status, report);
        }
        let person = self.people.get(name);
        status.busy = person.and_then(|person| person.busy.clone());
        let (phase, message) =
            match person.filter(|person| person.pulse.due(self.settings.timeout).is_some()) {
                Some(person) => person.pulse.phase(now, self.settings.timeout),
                // Somebody made it by hand, and it is not there yet.
                None if status.registered_at.is_none() => {
                    Pulse::default().phase(now, self.settings.timeout)
                }
                // One that this bridge has not heard of is where it was.
                None => {
                    let phase = status.phase.unwrap_or_default();
                    let message = status.message.clone().unwrap_or_default();
                    return settle(status, robot, phase, message, now);
                }
            };
        if let Some(heard) = person.and_then(|person| person.pulse.heard) {
            status.last_heartbeat_time = Some(Time(heard));
        }
        let manual = self.settings.approval == Approval::Manual;
        let (phase, message) = match robot.spec.approved {
            Some(false) => (RobotPhase::Pending, KEPT_OUT),
            None if manual => (RobotPhase::Pending, APPROVAL),
            _ => (phase, message),
        };
        settle(status, robot, phase, message.to_owned(), now)
    }

    /// What was said of a robot is written down, or could not be.
    pub(crate) fn robot_written(&mut self, name: &str, ok: bool) {
        let Some(news) = self.news_written.remove(name) else {
            return;
        };
        if !ok {
            self.news.entry(name.to_owned()).or_default().restore(news);
            return;
        }
        if news.is_empty() {
            return;
        }
        for (_, (spool, number)) in &news.deployments {
            self.desk.done(name, spool, *number);
            self.acknowledge.insert(name.to_owned());
        }
        if news.registration.is_some() {
            let Some(robot) = self.index.robots.get(name).cloned() else {
                // Another has made it meanwhile; it is seen soon, and then answered.
                self.news.entry(name.to_owned()).or_default().restore(news);
                return;
            };
            if self.spec_renewed(name, &robot) {
                tracing::info!(
                    robot = name,
                    "registered once more with the bootstrap token"
                );
            }
            // It may have forgotten all it was told.
            self.people.of(name).told = None;
            self.index.stale.insert(name.to_owned());
            self.say_registered(name, &robot);
        }
    }

    /// Takes back the wish that a robot may register once more, now that it has.
    fn spec_renewed(&mut self, name: &str, robot: &Robot) -> bool {
        let wish = robot.spec.credential.as_ref();
        if wish.is_none_or(|wish| wish.renew != Some(true)) {
            return false;
        }
        let patch = json!({ "spec": { "credential": { "renew": null, "revoked": null } } });
        self.write(Kind::Robot, name, What::Spec(patch));
        true
    }

    /// A robot was deleted: if it lives, it must register again.
    pub(crate) fn lose_robot(&mut self, name: &str) {
        self.people.forget(name);
        self.desk.forget(name);
        self.news.remove(name);
        self.say_register_again(name);
        self.settings.robots.set(name, None);
        if let Some(passwords) = &self.passwords {
            passwords.remove(name);
        }
        if let Some(door) = &self.settings.door {
            door.put_out(name);
        }
    }
}

fn is_revoked(robot: &Robot) -> bool {
    let wish = robot.spec.credential.as_ref();
    robot.spec.approved == Some(false)
        || wish.is_some_and(|wish| wish.revoked == Some(true) && wish.renew != Some(true))
}

/// The status with where the robot stands.
fn settle(
    mut status: RobotStatus,
    robot: &Robot,
    phase: RobotPhase,
    message: String,
    now: Timestamp,
) -> RobotStatus {
    status.phase = Some(phase);
    status.message = Some(message.clone());
    let ready = match phase {
        RobotPhase::Online => "True",
        RobotPhase::Unknown => "Unknown",
        RobotPhase::Pending | RobotPhase::Offline => "False",
    };
    let known = status.conditions.iter().flatten();
    let word = format!("{phase:?}");
    let schedulable =
        !robot.spec.unschedulable.unwrap_or(false) && !robot.spec.drain.unwrap_or(false);
    let standing = match (is_revoked(robot), schedulable) {
        (true, _) => "Revoked",
        (false, true) => "Open",
        (false, false) => "Cordoned",
    };
    let conditions = [
        ("Ready", ready, word.as_str(), message.as_str()),
        (
            "Schedulable",
            if schedulable { ready } else { "False" },
            standing,
            "",
        ),
    ];
    let conditions = conditions.map(|(kind, status, reason, message)| {
        let before = known.clone().find(|condition| condition.type_ == kind);
        condition(before, kind, status, reason, message, now)
    });
    status.conditions = Some(conditions.into());
    status
}

fn condition(
    before: Option<&Condition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Condition {
    let same = before.filter(|before| before.status == status);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: same.map_or(Time(now), |same| same.last_transition_time.clone()),
        observed_generation: None,
    }
}

/// Writes down what a robot says of a deployment.
fn install(status: &mut RobotStatus, report: &DeploymentReport) {
    let installed = status.deployments.get_or_insert_default();
    installed.retain(|known| known.uid != report.uid);
    installed.push(InstalledDeployment {
        name: end_of(&report.name, 253).to_owned(),
        uid: end_of(&report.uid, 64).to_owned(),
        version: end_of(&report.version, 63).to_owned(),
        generation: report.generation,
        state: report.state,
        active_version: report.active_version.clone(),
        message: report
            .message
            .as_deref()
            .map(|text| end_of(text, 1024).to_owned()),
    });
    let surplus = installed.len().saturating_sub(DEPLOYMENTS);
    installed.drain(..surplus);
}
