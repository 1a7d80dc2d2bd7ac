//! What the robot says: that it lives, and what has become of its tasks.

use jiff::Timestamp;
use sandlot_api::robot::{
    DeviceInfo,
    wire::{Beat, LogChunk, News, Reports, TaskReport, Topic, upstream::Status},
};
use serde_json::Value;

use super::Agent;

impl Agent {
    /// Something has happened.
    pub(super) async fn note(&mut self, at: Timestamp, news: News) {
        if let News::Task(report) = &news
            && let Some(living) = self.tasks.get_mut(&report.key.to_string())
        {
            living.said = Some(TaskReport::clone(report));
        }
        if let Err(error) = self.outbox.push(at, news).await {
            tracing::error!(%error, "a report cannot be kept, and is lost");
        }
        self.metrics.reports.inc();
    }

    /// Says once more where the tasks stand that are under way: while the robot was not heard of
    /// they may have been given up for lost.
    pub(super) async fn say_again(&mut self) {
        let said = self
            .tasks
            .values()
            .filter_map(|living| living.said.as_ref());
        let open: Vec<TaskReport> = said
            .filter(|report| !report.state.is_terminal())
            .map(|report| TaskReport {
                // Nothing has happened.
                event: None,
                ..report.clone()
            })
            .collect();
        for report in open {
            self.note(Timestamp::now(), News::Task(Box::new(report)))
                .await;
        }
    }

    /// Whether somebody is there who takes what the robot says.
    fn is_heard(&self) -> bool {
        self.connected && (self.published || self.identity.is_registered())
    }

    /// Says what waits and is on the disk.
    pub(super) fn send_reports(&mut self) {
        if !self.is_heard() {
            return;
        }
        while let Some(reports) = self.outbox.next() {
            let said = match self.published && !self.identity.is_registered() {
                true => self.say_as_published(&reports),
                false => self.say_json(&Topic::Reports(self.settings.robot.clone()), &reports),
            };
            if !said {
                // There is no room now: everything is sent again with the next beat.
                self.outbox.begin();
                return;
            }
        }
    }

    /// The same in the published words, where both revisions expect them.
    fn say_as_published(&self, reports: &Reports) -> bool {
        let robot = &self.settings.robot;
        reports.reports.iter().all(|report| {
            let News::Task(task) = &report.news else {
                return true;
            };
            let status = Status::of(task, robot, report.at);
            let uid = || task.key.uid.clone();
            self.say_json(&Topic::FirstStatus(robot.clone(), uid()), &status)
                && self.say_json(&Topic::Status(robot.clone(), uid()), &status)
        })
    }

    /// It is time to say that the robot lives.
    pub(super) async fn tick(&mut self) {
        self.stop_those_cut_off();
        if !self.is_heard() {
            return;
        }
        let info = self.observer.look();
        let lasting = info.lasting();
        let is_published = self.published && !self.identity.is_registered();
        // A published server replaces what it knows by whatever comes with a beat.
        let is_news = is_published || self.told.as_ref() != Some(&lasting);
        let beat = Beat {
            robot_id: self.settings.robot.clone(),
            token: self.settings.token.clone().filter(|_| is_published),
            device_info: if is_news { json(&info) } else { Value::Null },
            busy: self.busy.reason(),
        };
        let topic = match is_published {
            true => Topic::Heartbeat,
            false => Topic::OwnHeartbeat(self.settings.robot.clone()),
        };
        if self.say_json(&topic, &beat) {
            self.told = Some(lasting);
            self.metrics.beats.inc();
        }
        match is_published {
            true => self.forget_what_was_taken().await,
            // What is not acknowledged by now was heard by nobody who could write it down.
            false => self.outbox.begin(),
        }
        self.send_reports();
    }

    /// A published server acknowledges nothing: what was said before the last beat, over a
    /// connection that still stands, has been taken by the broker.
    async fn forget_what_was_taken(&mut self) {
        if let Err(error) = self.outbox.forget(self.taken).await {
            tracing::warn!(%error, "what was taken cannot be noted; it is said again");
        }
        self.taken = self.outbox.sent();
    }

    /// Says a piece of a task's output, or keeps it until there is room.
    pub(super) fn show(&mut self, (request, chunk): (String, LogChunk)) {
        let topic = Topic::LogChunk(self.settings.robot.clone(), request.clone());
        if !self.say_json(&topic, &chunk) {
            self.unsaid = Some((request, chunk));
        }
    }

    pub(super) fn say_json(&self, topic: &Topic, message: &impl serde::Serialize) -> bool {
        serde_json::to_vec(message).is_ok_and(|bytes| self.say(topic, bytes, false))
    }

    pub(super) fn say(&self, topic: &Topic, message: Vec<u8>, retain: bool) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.say(topic, message, retain))
    }
}

pub(super) fn json(info: &DeviceInfo) -> Value {
    // Numbers and texts are always JSON.
    serde_json::to_value(info).unwrap_or_default()
}
