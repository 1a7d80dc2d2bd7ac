//! What robots say, and what it is about.

use std::time::Instant;

use jiff::Timestamp;
use sandlot_api::robot::{
    DeviceInfo, RobotPhase,
    wire::{AttemptKey, Beat, News as Told, Registration, Reports, Topic, upstream::Status},
};
use sandlot_decide::robots::course::end_of;

use super::{
    broker::hash,
    inbox::{self, Refusal, Said, What},
    logs::{self, Ask},
    registration::{self, Rules},
    reports::Noted,
    work::{Bridge, CommandWord},
};

/// How often an unknown robot is told to register again.
const SCOLD: std::time::Duration = std::time::Duration::from_secs(5);
/// How many different refusals are logged; the rest is only counted.
const GRUMBLES: usize = 1000;

impl Bridge {
    /// Somebody has said something.
    pub(crate) fn hear(&mut self, topic: &str, payload: &[u8], retained: bool, now: Timestamp) {
        self.metrics.messages.inc();
        let said = match inbox::read(topic, payload) {
            Ok(Some(said)) => said,
            Ok(None) => return,
            Err(refusal) => return self.refuse_at(topic, refusal),
        };
        // Only presence is retained; anything else that is would be told anew at every connect.
        if retained && !matches!(said.what, What::Presence(_)) {
            self.refuse(&said.robot, "retained");
            return;
        }
        let Said { robot, own, what } = said;
        if let What::Register(registration) = what {
            self.hear_registration(&robot, *registration, own);
            return;
        }
        let Some(known) = self.index.robots.get(&robot) else {
            // What one that was deleted has left at the broker is no news.
            if !retained {
                self.refuse(&robot, "unknown");
            }
            self.scold(&robot, now);
            return;
        };
        // Somebody made it by hand after the one that had registered was deleted.
        let status = known.status.as_ref();
        let registered = status.is_some_and(|status| status.registered_at.is_some());
        if own && !registered && !self.is_registering(&robot) {
            self.scold(&robot, now);
        }
        if !own && !self.believes(&robot, &what) {
            self.refuse(&robot, "token");
            return;
        }
        let timeout = self.settings.timeout;
        match what {
            What::Register(_) => {}
            What::Presence(presence) => self.people.presence(&robot, &presence, now, timeout),
            What::Beat(beat) => {
                self.hear_beat(&robot, *beat, now);
                // Who has a credential of its own needs no answer: it hears when it is not known.
                if !own && self.people.of(&robot).may_be_answered(Instant::now()) {
                    self.say_heard(&robot);
                }
            }
            What::Reports(reports) => {
                self.people.beat(&robot, now, timeout);
                self.hear_reports(&robot, reports, now);
            }
            What::Credential(rotated) => {
                self.people.beat(&robot, now, timeout);
                self.news.entry(robot).or_default().rotated = Some(rotated);
            }
            What::LogChunk(request, chunk) => self.readers.hear(&robot, &request, chunk),
            What::Status(status) => {
                self.people.beat(&robot, now, timeout);
                self.hear_status(&robot, &status, now);
            }
        }
    }

    /// Somebody has said more at once than anybody may.
    pub(crate) fn hear_too_long(&mut self, topic: &str) {
        self.metrics.messages.inc();
        self.refuse_at(topic, Refusal::TooLong);
    }

    /// Something is not listened to that was said there.
    fn refuse_at(&mut self, topic: &str, refusal: Refusal) {
        let robot = Topic::read(topic).and_then(|topic| topic.robot().map(str::to_owned));
        self.refuse(robot.as_deref().unwrap_or("?"), refusal.name());
    }

    /// Something is not listened to: it is counted, and logged the first time.
    pub(crate) fn refuse(&mut self, robot: &str, reason: &'static str) {
        self.metrics.refused(reason);
        if self.grumbled.len() < GRUMBLES && self.grumbled.insert((robot.to_owned(), reason)) {
            tracing::warn!(
                robot,
                reason,
                "a message is not listened to; the next of its kind are only counted"
            );
        }
    }

    /// Whether something that anybody could have said is believed: robots with a credential of
    /// their own speak on topics of their own, or prove themselves with it.
    fn believes(&self, robot: &str, what: &What) -> bool {
        if !self.settings.robots.has(robot) {
            return self.settings.published && self.brings_the_token(what);
        }
        match what {
            What::Beat(beat) => {
                let token = beat.token.as_deref().unwrap_or("");
                self.settings.robots.is(robot, token)
            }
            // Where nobody without a login is let in, the topic is the robot's own.
            What::Status(_) => !self.settings.published,
            _ => false,
        }
    }

    /// Whether a beat brings what robots register with, if it brings anything.
    fn brings_the_token(&self, what: &What) -> bool {
        match (what, &self.settings.token) {
            (What::Beat(beat), Some(token)) => {
                let brought = beat.token.as_deref();
                brought.is_none_or(|brought| hash(brought) == hash(token))
            }
            _ => true,
        }
    }

    /// Whether a robot's registration is being written down.
    fn is_registering(&self, robot: &str) -> bool {
        let news = [&self.news, &self.news_written];
        let mut news = news.into_iter().filter_map(|news| news.get(robot));
        news.any(|news| news.registration.is_some())
    }

    /// Tells a robot that is not known, or never registered, to register again.
    fn scold(&mut self, robot: &str, now: Timestamp) {
        if self.people.may_scold(robot, now, SCOLD) {
            self.say_register_again(robot);
        }
    }

    fn hear_registration(&mut self, robot: &str, asked: Registration, own: bool) {
        let rules = Rules {
            token: self.settings.token.as_deref(),
            published: self.settings.published,
        };
        let known = self.index.robots.get(robot);
        match registration::admit(&rules, &asked, own, known) {
            Ok(()) => self.news.entry(robot.to_owned()).or_default().registration = Some(asked),
            Err(denied) => {
                self.refuse(robot, denied.name());
                self.say_denied(robot, denied.message());
            }
        }
    }

    fn hear_beat(&mut self, robot: &str, beat: Beat, now: Timestamp) {
        self.metrics.beats.inc();
        self.people.beat(robot, now, self.settings.timeout);
        let busy = beat.busy.map(|why| end_of(&why, 256).to_owned());
        let person = self.people.of(robot);
        if person.busy != busy {
            person.busy = busy;
            self.people.moved.insert(robot.to_owned());
        }
        if beat.device_info.is_null() {
            return;
        }
        // Published agents send all of it with each beat: only what lasts is news.
        let sent = DeviceInfo::read(&beat.device_info);
        let status = self
            .index
            .robots
            .get(robot)
            .and_then(|robot| robot.status.as_ref());
        let known = status.and_then(|status| status.device_info.as_ref());
        if known.is_none_or(|known| known.lasting() != sent.lasting()) {
            self.news.entry(robot.to_owned()).or_default().device = Some(sent);
        }
    }

    fn hear_reports(&mut self, robot: &str, reports: Reports, now: Timestamp) {
        let (spool, mut after) = (reports.spool, reports.after);
        for report in reports.reports {
            let entered = self.desk.enter(robot, &spool, after, report.sequence);
            after = report.sequence;
            if !entered {
                continue;
            }
            let number = (spool.clone(), report.sequence);
            match report.news {
                Told::Task(task) => {
                    let known = self.index.task(&task.key.uid);
                    let name = known
                        .filter(|known| known.spec.target_robot.as_deref() == Some(robot))
                        .filter(|known| AttemptKey::of(known) == task.key)
                        .map(|known| known.metadata.name.clone().unwrap_or_default());
                    match name {
                        Some(name) => {
                            self.desk.put(Noted {
                                report: task,
                                number: Some(number),
                                // A robot's clock may be anywhere; what it says of itself is kept
                                // in the report's own times.
                                at: now,
                            });
                            self.index.fresh_tasks.insert(name);
                        }
                        // It is gone, or another attempt: nobody waits for it.
                        None => self.desk.done(robot, &number.0, number.1),
                    }
                }
                Told::Command(command) if !self.knows_command(&command.name, &command.uid) => {
                    self.desk.done(robot, &number.0, number.1);
                }
                Told::Command(command) => {
                    let words = self.words.entry(command.uid.clone()).or_default();
                    self.index.fresh_commands.insert(command.name.clone());
                    words.push(CommandWord {
                        robot: robot.to_owned(),
                        report: command,
                        at: now,
                        number,
                    });
                }
                Told::Deployment(deployment) => {
                    let news = self.news.entry(robot.to_owned()).or_default();
                    news.deployments.push((deployment, number));
                }
            }
        }
        self.acknowledge.insert(robot.to_owned());
    }

    fn knows_command(&self, name: &str, uid: &str) -> bool {
        let known = self.index.commands.get(name);
        known.is_some_and(|known| known.metadata.uid.as_deref() == Some(uid))
    }

    /// Somebody wants to read what a task prints.
    pub(crate) fn ask(&mut self, ask: Ask) {
        let Some(task) = self.index.tasks.get(&ask.task) else {
            return logs::refuse(&ask.to, "there is no such task");
        };
        let (uid, robot) = (task.metadata.uid.clone(), task.spec.target_robot.clone());
        match (uid, robot) {
            (Some(uid), Some(robot)) => self.readers.open(ask, &robot, &uid),
            _ => logs::refuse(&ask.to, "the task has no robot yet"),
        }
    }

    /// A robot of the published protocol says where a task stands.
    fn hear_status(&mut self, robot: &str, status: &Status, now: Timestamp) {
        let Some(task) = self.index.task(&status.task_uid) else {
            return;
        };
        if task.spec.target_robot.as_deref() != Some(robot) {
            self.refuse(robot, "spoofed");
            return;
        }
        let key = AttemptKey::of(task);
        let name = task.metadata.name.clone().unwrap_or_default();
        let Some(report) = status.report(key.generation, key.attempt) else {
            self.refuse(robot, "unknown_state");
            return;
        };
        self.desk.put(Noted {
            report: Box::new(report),
            number: None,
            at: now,
        });
        self.index.fresh_tasks.insert(name);
    }

    /// What a bridge does first, when it knows the API: robots that were there are thought to be.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        let timeout = self.settings.timeout;
        for (name, robot) in &self.index.robots {
            let phase = robot
                .status
                .as_ref()
                .and_then(|status| status.phase)
                .unwrap_or_default();
            self.people.recall(name, phase, now, timeout);
            let credential = robot
                .status
                .as_ref()
                .and_then(|status| status.credential.as_ref());
            self.settings.robots.set(name, credential);
        }
        self.index.stale.extend(self.index.robots.keys().cloned());
    }

    /// For how many seconds the robot has been silent that is longest of those that are there.
    fn longest_silence(&self, now: Timestamp) -> f64 {
        let online = self.index.robots.iter().filter(|(_, robot)| {
            let status = robot.status.as_ref();
            status.and_then(|status| status.phase) == Some(RobotPhase::Online)
        });
        online
            .filter_map(|(name, _)| self.people.get(name)?.pulse.heard)
            .map(|heard| now.duration_since(heard).as_secs_f64())
            .fold(0.0, f64::max)
    }

    /// Looks for robots whose beats have run out, and counts.
    pub(crate) fn check(&mut self, now: Timestamp) {
        self.people.check(now, self.settings.timeout);
        let phases = super::work::counted(self.index.robots.values().map(|robot| {
            let phase = robot
                .status
                .as_ref()
                .and_then(|status| status.phase)
                .unwrap_or_default();
            phase as u8
        }));
        use RobotPhase::{Offline, Online, Pending, Unknown};
        let count = |phase| (phase, phases.get(&(phase as u8)).copied().unwrap_or(0));
        self.metrics
            .phases(&[Pending, Online, Offline, Unknown].map(count));
        let waiting = self.desk.waiting().count();
        self.metrics
            .waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.metrics.oldest_beat.set(self.longest_silence(now));
        self.readers.close_idle();
        tracing::trace!(
            robots = self.people.len(),
            "looked for robots that are silent"
        );
    }
}
