//! What robots are told.

use jiff::Timestamp;
use kube::ResourceExt;
use sandlot_api::{
    GoDuration,
    robot::{
        CommandResultState, Robot, RobotPhase, TaskState,
        wire::{
            CommandReport, Desired, ROOM_FOR_TASKS, Registered, Topic,
            upstream::{Action, Dispatch, State},
        },
    },
};
use serde::Serialize;

use super::{
    desired,
    work::{Bridge, CommandWord},
};

impl Bridge {
    /// Says something, if there is room now.
    fn say(&self, topic: &Topic, what: &impl Serialize, retain: bool) -> bool {
        // Messages are plain data: writing them as JSON cannot fail.
        let text = serde_json::to_vec(what).unwrap_or_default();
        self.mouth.say(topic, text, retain).is_ok()
    }

    /// Tells everybody what is new to them. Who cannot be told now is told in the next round: when
    /// there is no room for one, there is none for those who come after it.
    pub(crate) fn tell(&mut self, now: Timestamp) {
        while let Some(robot) = self.index.stale.pop_first() {
            if !self.tell_desired(&robot, now) {
                self.index.stale.insert(robot);
                break;
            }
        }
        let robots = std::mem::take(&mut self.acknowledge);
        for (robot, upto) in self.desk.acknowledge(&robots) {
            // One that cannot be told now asks again.
            self.say(&Topic::Acknowledged(robot), &upto, false);
        }
        for (robot, request) in self.readers.requests() {
            self.say(&Topic::LogRequest(robot), &request, false);
        }
    }

    /// Tells a robot what it is to do, if that is news; false if it could not be told.
    fn tell_desired(&mut self, name: &str, now: Timestamp) -> bool {
        let Some(robot) = self.index.robots.get(name) else {
            return true;
        };
        // One that waits to be approved, or was never heard of, is to do nothing.
        let phase = robot.status.as_ref().and_then(|status| status.phase);
        let kept_out = phase.unwrap_or_default() == RobotPhase::Pending;
        let mut wanted = desired::desired(&self.index, name, robot, now);
        if kept_out {
            wanted.tasks.retain(|task| task.stop);
            wanted.commands.clear();
            wanted.deployments.clear();
        }
        let lasting = without_clock(&wanted);
        let before = self.people.get(name).and_then(|person| person.told.clone());
        if before.as_ref() == Some(&lasting) {
            return true;
        }
        let published = robot
            .status
            .as_ref()
            .is_some_and(|status| status.registered_at.is_some() && status.protocol.is_none());
        if published && phase != Some(RobotPhase::Online) {
            // It would not hear it: it is told all of it when it is there.
            self.people.of(name).told = None;
            return true;
        }
        let orders = |this: &mut Self| this.tell_published(name, before.as_ref(), &wanted);
        if published && !(orders(self) && self.tell_in_words(name, &wanted, now)) {
            return false;
        }
        self.version += 1;
        wanted.version = self.version;
        wanted.epoch.clone_from(&self.epoch);
        if !self.say(&Topic::Desired(name.to_owned()), &wanted, true) {
            return false;
        }
        self.metrics.told.inc();
        let told = wanted.tasks.iter().map(|task| task.name.clone());
        self.index.fresh_tasks.extend(told);
        self.people.of(name).told = Some(lasting);
        // That it was told may have to be written down of some tasks.
        for task in std::mem::take(&mut self.index.fresh_tasks) {
            self.look_at_task(&task, now);
        }
        true
    }

    /// Tells a robot of the published protocol what has changed for it; both revisions' topics,
    /// as nobody can know which it listens to.
    fn tell_published(&self, name: &str, before: Option<&Desired>, wanted: &Desired) -> bool {
        let had = |uid: &str| {
            let tasks = before.map_or(&[][..], |before| before.tasks.as_slice());
            tasks.iter().find(|task| task.key.uid == uid)
        };
        let mut orders = Vec::new();
        for task in &wanted.tasks {
            let known = had(&task.key.uid);
            let Some(found) = self.index.task(&task.key.uid) else {
                continue;
            };
            let fresh = matches!(
                desired::state(found),
                TaskState::Pending | TaskState::Dispatching | TaskState::Scheduled
            );
            let action = match known {
                None if task.stop => Action::Delete,
                // One that runs already would be run twice.
                None if !fresh => continue,
                None => Action::Create,
                Some(known) if task.stop && !known.stop => Action::Delete,
                Some(_) => continue,
            };
            orders.push(Dispatch {
                action,
                task: found.clone(),
            });
        }
        let robot = || name.to_owned();
        let wanted = wanted.tasks.iter().filter(|task| !task.stop);
        let known = wanted.filter_map(|task| self.index.task(&task.key.uid).cloned());
        let mut all = State {
            tasks: known.collect(),
        };
        desired::keep_what_fits(&mut all.tasks, ROOM_FOR_TASKS);
        self.say(&Topic::State(robot()), &all, true)
            && orders.iter().all(|order| {
                self.say(&Topic::FirstDispatch(robot()), order, false)
                    && self.say(&Topic::Dispatch(robot()), order, false)
            })
    }

    /// Tells a robot of the published protocol its commands in words, as its agent logs them. It
    /// answers nothing: that it was told is noted, so that no other bridge says it again, and the
    /// command runs out.
    fn tell_in_words(&mut self, name: &str, wanted: &Desired, now: Timestamp) -> bool {
        for command in wanted.commands.iter().filter(|command| !command.cancel) {
            let status = self.index.commands.get(&command.name);
            let results = status.and_then(|found| found.status.as_ref()?.results.as_ref());
            let result = results.and_then(|all| all.iter().find(|one| one.robot == name));
            let mut noted = self.words.get(&command.uid).into_iter().flatten();
            if result.is_none_or(|result| result.state != CommandResultState::Pending)
                || noted.any(|word| word.robot == name)
            {
                continue;
            }
            let words = std::iter::once(&command.verb).chain(&command.args);
            let words: Vec<&str> = words.map(String::as_str).collect();
            let topic = Topic::Words(name.to_owned());
            let said = self.mouth.say(&topic, words.join(" ").into_bytes(), false);
            if said.is_err() {
                return false;
            }
            self.index.fresh_commands.insert(command.name.clone());
            let word = CommandWord {
                robot: name.to_owned(),
                report: CommandReport {
                    uid: command.uid.clone(),
                    name: command.name.clone(),
                    state: CommandResultState::Running,
                    ..CommandReport::default()
                },
                at: now,
                // It stands in no spool of the robot's.
                number: (String::new(), 0),
            };
            self.words
                .entry(command.uid.clone())
                .or_default()
                .push(word);
        }
        true
    }

    fn answer(&self, robot: &str, answer: &Registered) {
        // One that is not told asks again.
        self.say(&Topic::Response(robot.to_owned()), answer, false);
        self.say(&Topic::FirstResponse(robot.to_owned()), answer, false);
    }

    /// Tells a robot that it is registered.
    pub(crate) fn say_registered(&self, name: &str, robot: &Robot) {
        let status = robot.status.as_ref();
        let phase = status.and_then(|status| status.phase).unwrap_or_default();
        let pending = phase == RobotPhase::Pending;
        let message = match pending {
            true => "registered, and waiting for approval",
            false => "registered",
        };
        let credential = status.and_then(|status| status.credential.as_ref());
        self.answer(
            name,
            &Registered {
                success: true,
                message: message.to_owned(),
                robot_id: Some(name.to_owned()),
                pending,
                beat_seconds: Some(self.settings.beat.as_secs().max(1)),
                credential_revision: credential.map(|credential| credential.revision),
                register_again: false,
            },
        );
        tracing::info!(robot = name, uid = robot.uid(), message);
    }

    /// Tells a robot of the published protocol that its beat was heard, as its first servers do;
    /// later agents take what is said on their topic for the answer to a registration.
    pub(crate) fn say_heard(&self, robot: &str) {
        let answer = Registered {
            success: true,
            message: "heartbeat received".to_owned(),
            robot_id: Some(robot.to_owned()),
            ..Registered::default()
        };
        self.say(&Topic::FirstResponse(robot.to_owned()), &answer, false);
    }

    /// Tells a robot why it is not registered.
    pub(crate) fn say_denied(&self, robot: &str, why: &str) {
        self.answer(
            robot,
            &Registered {
                message: why.to_owned(),
                ..Registered::default()
            },
        );
    }

    /// Tells a robot that is not known to register again.
    pub(crate) fn say_register_again(&self, robot: &str) {
        self.answer(
            robot,
            &Registered {
                message: "this robot is not known: register again".to_owned(),
                register_again: true,
                ..Registered::default()
            },
        );
    }
}

/// A document without what changes as time passes.
fn without_clock(desired: &Desired) -> Desired {
    let mut lasting = desired.clone();
    for command in &mut lasting.commands {
        command.time_left = None::<GoDuration>;
    }
    lasting
}
