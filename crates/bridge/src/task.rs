//! Where a task stands, written down when its robot says so.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use sandlot_api::robot::{Command, Task, TaskState, TaskStatus};
use sandlot_decide::{
    expiry::later,
    robots::course::{Number, apply, note},
};

use super::{
    command, desired,
    reports::Noted,
    sights::Kind,
    work::Bridge,
    writes::{What, status_patch},
};

/// How long after its robot was told of it it may stay unsaid that a task is on its way: most are
/// further by then.
const DISPATCHED: Duration = Duration::from_millis(500);
/// How long it may stay unsaid how far a task is before it has ended: short ones have by then.
const UNDERWAY: Duration = Duration::from_millis(15);

impl Bridge {
    /// Writes down where a task stands, if there is something new to say.
    pub(crate) fn look_at_task(&mut self, name: &str, now: Timestamp) {
        let Some(task) = self.index.tasks.get(name).cloned() else {
            return;
        };
        if self.must_wait(Kind::Task, name, now) {
            return;
        }
        let uid = task.uid().unwrap_or_default();
        let notes = self.desk.about(&uid);
        if notes.is_empty() {
            self.look_whether_dispatched(name, &task, now);
            return;
        }
        if let Some(when) = worth_waiting(notes).filter(|when| *when > now) {
            self.wake(when, Kind::Task, name);
            return;
        }
        let count = notes.len();
        let before = task.status.clone().unwrap_or_default();
        let mut next = before.clone();
        for noted in notes {
            let number = noted.number.as_ref().map(|(spool, sequence)| Number {
                spool,
                sequence: *sequence,
            });
            if let Some(changed) = apply(&next, &noted.report, number, noted.at) {
                next = changed;
            }
        }
        // What is only said once more is no news, under whatever number.
        if unnumbered(&next) == unnumbered(&before) {
            self.settle_task(&task, count);
            return;
        }
        self.count(&task, &before, &next);
        self.written.insert((Kind::Task, name.to_owned()), count);
        let patch = status_patch(&task, task.status.as_ref(), &next);
        self.write(Kind::Task, name, What::Status(patch));
    }

    /// Writes down that a task is on its way, if it has been for a while.
    fn look_whether_dispatched(&mut self, name: &str, task: &Task, now: Timestamp) {
        let state = desired::state(task);
        let Some(robot) = &task.spec.target_robot else {
            return;
        };
        if task.is_stopped() && state == TaskState::Pending && !self.was_told(robot, task) {
            // Nobody ever heard of it, and nobody will.
            return self.write_state(name, task, TaskState::Cancelled, "Stopped", now);
        }
        let uid = task.uid().unwrap_or_default();
        if state != TaskState::Pending || !self.was_told(robot, task) {
            self.told_since.remove(&uid);
            return;
        }
        let due = later(*self.told_since.entry(uid).or_insert(now), DISPATCHED);
        if due > now {
            self.wake(due, Kind::Task, name);
        } else {
            self.write_state(name, task, TaskState::Dispatching, "Dispatched", now);
        }
    }

    fn write_state(
        &mut self,
        name: &str,
        task: &Task,
        state: TaskState,
        event: &str,
        now: Timestamp,
    ) {
        let mut next = task.status.clone().unwrap_or_default();
        next.state = Some(state);
        next.message = None;
        note(&mut next, event, None, now);
        let patch = status_patch(task, task.status.as_ref(), &next);
        self.write(Kind::Task, name, What::Status(patch));
    }

    fn was_told(&self, robot: &str, task: &Task) -> bool {
        let told = self
            .people
            .get(robot)
            .and_then(|person| person.told.as_ref());
        let uid = task.uid();
        told.is_some_and(|told| {
            told.tasks
                .iter()
                .any(|one| Some(&one.key.uid) == uid.as_ref())
        })
    }

    fn count(&self, task: &Task, before: &TaskStatus, next: &TaskStatus) {
        let state = next.state.unwrap_or_default();
        if before.state != next.state {
            self.metrics.task(state.name());
        }
        if before.restart_count < next.restart_count {
            self.metrics.restarts.inc();
        }
        if before.started_at.is_none()
            && next.started_at.is_some()
            && let Some(made) = &task.metadata.creation_timestamp
        {
            let took = Timestamp::now().duration_since(made.0).as_secs_f64();
            self.metrics.start_latency.observe(took.max(0.0));
        }
    }

    /// What was said of a task is written down, or could not be: then it is said again.
    pub(crate) fn task_written(&mut self, name: &str, ok: bool) {
        let Some(count) = self.written.remove(&(Kind::Task, name.to_owned())) else {
            return;
        };
        if ok && let Some(task) = self.index.tasks.get(name).cloned() {
            self.settle_task(&task, count);
        }
    }

    fn settle_task(&mut self, task: &Task, count: usize) {
        let uid = task.uid().unwrap_or_default();
        let robot = task.spec.target_robot.clone().unwrap_or_default();
        for noted in self.desk.take(&uid, count) {
            self.settle_note(&robot, noted);
        }
    }

    fn settle_note(&mut self, robot: &str, noted: Noted) {
        if let Some((spool, number)) = noted.number {
            self.desk.done(robot, &spool, number);
            self.acknowledge.insert(robot.to_owned());
        }
    }

    /// A task is gone: what is still said of it is for nobody.
    pub(crate) fn lose_task(&mut self, task: &Task) {
        self.told_since.remove(&task.uid().unwrap_or_default());
        self.settle_task(task, usize::MAX);
    }

    /// Writes down where a command stands, if there is something new to say.
    pub(crate) fn look_at_command(&mut self, name: &str, now: Timestamp) {
        if self.must_wait(Kind::Command, name, now) {
            return;
        }
        let Some(command) = self.index.commands.get(name).cloned() else {
            return;
        };
        let uid = command.uid().unwrap_or_default();
        let words = self.words.get(&uid).map_or(&[][..], Vec::as_slice);
        let said: Vec<_> = words
            .iter()
            .map(|word| (word.robot.clone(), word.report.clone(), word.at))
            .collect();
        let (status, wake) = command::observe(&command, self.index.robots.iter(), &said, now);
        if let Some(when) = wake {
            self.wake(when, Kind::Command, name);
        }
        self.written
            .insert((Kind::Command, name.to_owned()), said.len());
        if command.status.as_ref() == Some(&status) {
            self.command_written(name, true);
            return;
        }
        let patch = status_patch(&command, command.status.as_ref(), &status);
        self.write(Kind::Command, name, What::Status(patch));
    }

    /// What was said of a command is written down, or could not be.
    pub(crate) fn command_written(&mut self, name: &str, ok: bool) {
        let Some(count) = self.written.remove(&(Kind::Command, name.to_owned())) else {
            return;
        };
        let uid = self.index.commands.get(name).and_then(ResourceExt::uid);
        if let Some(uid) = uid.filter(|_| ok) {
            self.settle_words(&uid, count);
        }
    }

    /// A command is gone: what is still said of it is for nobody.
    pub(crate) fn lose_command(&mut self, command: &Command) {
        self.settle_words(&command.uid().unwrap_or_default(), usize::MAX);
    }

    fn settle_words(&mut self, uid: &str, count: usize) {
        let Some(words) = self.words.get_mut(uid) else {
            return;
        };
        let taken: Vec<_> = words.drain(..count.min(words.len())).collect();
        if words.is_empty() {
            self.words.remove(uid);
        }
        for word in taken {
            self.desk.done(&word.robot, &word.number.0, word.number.1);
            self.acknowledge.insert(word.robot);
        }
    }
}

/// A status without the number of the report it comes from.
fn unnumbered(status: &TaskStatus) -> TaskStatus {
    TaskStatus {
        spool: None,
        sequence: None,
        ..status.clone()
    }
}

/// Until when it is worth waiting for more about a task: it may end in a moment, and then that is
/// one write for all of it.
fn worth_waiting(notes: &[Noted]) -> Option<Timestamp> {
    let ended = |noted: &Noted| noted.report.state.is_terminal();
    match notes.iter().any(ended) {
        true => None,
        false => notes.first().map(|first| later(first.at, UNDERWAY)),
    }
}
