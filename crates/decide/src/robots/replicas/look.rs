//! What is seen of a group's replicas.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sandlot_api::robot::TaskState;

/// A task of a group, as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFact {
    /// Its name.
    pub name: String,
    /// The replica it is part of.
    pub replica: i32,
    /// The attempt it is part of.
    pub attempt: i64,
    /// The robot it is on.
    pub robot: Option<String>,
    /// The version it was made from.
    pub revision: String,
    /// Where it stands.
    pub state: TaskState,
    /// It is on its way out.
    pub leaving: bool,
    /// When it was made.
    pub made: Timestamp,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
}

/// All tasks of one attempt at a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The attempt.
    pub attempt: i64,
    /// Its tasks.
    pub tasks: Vec<&'a TaskFact>,
}

/// How an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is on its way or runs.
    Live,
    /// Its robot is not heard of.
    Lost,
    /// All of it ended well.
    Completed,
    /// Some of it did not, then.
    Failed(Timestamp),
    /// It is being taken away.
    Leaving,
}

/// A replica with its attempts, the earliest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica<'a> {
    /// Which it is, from 0.
    pub index: i32,
    /// Its attempts.
    pub runs: Vec<Run<'a>>,
}

/// Sorts tasks into replicas and their attempts.
pub fn read(tasks: &[TaskFact]) -> BTreeMap<i32, Replica<'_>> {
    let mut sorted: BTreeMap<i32, BTreeMap<i64, Vec<&TaskFact>>> = BTreeMap::new();
    for task in tasks {
        let runs = sorted.entry(task.replica).or_default();
        runs.entry(task.attempt).or_default().push(task);
    }
    sorted
        .into_iter()
        .map(|(index, runs)| {
            let runs = runs
                .into_iter()
                .map(|(attempt, tasks)| Run { attempt, tasks })
                .collect();
            (index, Replica { index, runs })
        })
        .collect()
}

impl<'a> Run<'a> {
    /// How it stands; `expected` is how many tasks it should have.
    pub fn standing(&self, expected: usize) -> Standing {
        if self.tasks.iter().all(|task| task.leaving) {
            return Standing::Leaving;
        }
        let failed = self.tasks.iter().filter(|task| {
            matches!(
                task.state,
                TaskState::Failed | TaskState::Rejected | TaskState::Cancelled
            )
        });
        // It failed when the first of it did: the rest is stopped then.
        if let Some(at) = failed.map(|task| task.finished.unwrap_or(task.made)).min() {
            return Standing::Failed(at);
        }
        if self.tasks.iter().any(|task| task.state == TaskState::Lost) {
            return Standing::Lost;
        }
        let done = |task: &&TaskFact| task.state == TaskState::Completed;
        if self.tasks.len() >= expected && self.tasks.iter().all(done) {
            return Standing::Completed;
        }
        Standing::Live
    }

    /// The robot it is on.
    pub fn robot(&self) -> Option<&'a str> {
        self.tasks.iter().find_map(|task| task.robot.as_deref())
    }

    /// The version it was made from.
    pub fn revision(&self) -> Option<&'a str> {
        self.tasks.first().map(|task| task.revision.as_str())
    }

    /// When it was made.
    pub fn made(&self) -> Timestamp {
        let made = self.tasks.iter().map(|task| task.made);
        made.min().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Since when all of it runs; a task that has ended well counts as running.
    pub fn running(&self, expected: usize) -> Option<Timestamp> {
        if self.tasks.len() < expected {
            return None;
        }
        let mut since = Timestamp::UNIX_EPOCH;
        for task in &self.tasks {
            match task.state {
                TaskState::Running | TaskState::Completed => {
                    since = since.max(task.started.unwrap_or(task.made));
                }
                _ => return None,
            }
        }
        Some(since)
    }
}

impl<'a> Replica<'a> {
    /// The attempt that counts: the earliest that is alive or has ended well, else one whose
    /// robot is not heard of, else the latest.
    pub fn counting(&self, expected: usize) -> Option<&Run<'a>> {
        let standing = |run: &&Run<'a>| run.standing(expected);
        let alive = |run: &&Run<'a>| matches!(standing(run), Standing::Live | Standing::Completed);
        let lost = |run: &&Run<'a>| standing(run) == Standing::Lost;
        self.runs
            .iter()
            .find(alive)
            .or_else(|| self.runs.iter().rev().find(lost))
            .or_else(|| self.runs.last())
    }

    /// The attempt after all there are.
    pub fn next_attempt(&self) -> i64 {
        self.runs.last().map_or(0, |run| run.attempt + 1)
    }

    /// When its attempts failed, in order.
    pub fn failures(&self, expected: usize) -> Vec<Timestamp> {
        let mut failures: Vec<Timestamp> = self
            .runs
            .iter()
            .filter_map(|run| match run.standing(expected) {
                Standing::Failed(at) => Some(at),
                _ => None,
            })
            .collect();
        failures.sort();
        failures
    }
}
