//! What many tasks come to together.

use sandlot_api::robot::{GroupState, GroupSummary, JobState, TaskState};

/// Tasks by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// They wait for a robot, or for their turn there.
    pub queued: i32,
    /// They are on their way.
    pub starting: i32,
    /// They run, or are being stopped.
    pub running: i32,
    /// They have completed.
    pub completed: i32,
    /// They have failed.
    pub failed: i32,
    /// They were cancelled.
    pub cancelled: i32,
    /// Nobody knows.
    pub lost: i32,
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, state: TaskState) {
        *match state {
            TaskState::Pending => &mut self.queued,
            TaskState::Dispatching
            | TaskState::Scheduled
            | TaskState::Accepted
            | TaskState::Downloading
            | TaskState::Starting => &mut self.starting,
            TaskState::Running | TaskState::Stopping | TaskState::Exited => &mut self.running,
            TaskState::Completed => &mut self.completed,
            TaskState::Failed | TaskState::Rejected => &mut self.failed,
            TaskState::Cancelled => &mut self.cancelled,
            TaskState::Lost => &mut self.lost,
        } += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Tally) {
        self.queued += other.queued;
        self.starting += other.starting;
        self.running += other.running;
        self.completed += other.completed;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.lost += other.lost;
    }

    /// How many there are.
    pub fn total(&self) -> i32 {
        self.queued
            + self.starting
            + self.running
            + self.completed
            + self.failed
            + self.cancelled
            + self.lost
    }

    /// How many may still do something.
    pub fn open(&self) -> i32 {
        self.queued + self.starting + self.running + self.lost
    }

    /// Where a group with these tasks stands. `settled` says that none will be made any more and
    /// none tried again.
    pub fn group(&self, settled: bool, cancelled: bool) -> GroupState {
        match self.job(settled, cancelled) {
            JobState::Pending if self.total() > 0 && self.queued == 0 => GroupState::Scheduled,
            JobState::Pending => GroupState::Pending,
            JobState::Running if self.running == 0 && self.ended() == 0 && self.lost == 0 => {
                GroupState::Scheduled
            }
            JobState::Running => GroupState::Running,
            JobState::Completed => GroupState::Completed,
            JobState::Failed => GroupState::Failed,
            JobState::Cancelled => GroupState::Cancelled,
        }
    }

    /// Where a job with these tasks stands.
    pub fn job(&self, settled: bool, cancelled: bool) -> JobState {
        let over = settled && self.open() == 0;
        if cancelled && self.open() == 0 {
            return JobState::Cancelled;
        }
        if over && self.failed + self.cancelled > 0 {
            return JobState::Failed;
        }
        if over && self.completed > 0 {
            return JobState::Completed;
        }
        if self.starting + self.running + self.lost + self.ended() > 0 {
            return JobState::Running;
        }
        JobState::Pending
    }

    fn ended(&self) -> i32 {
        self.completed + self.failed + self.cancelled
    }

    /// The same in the words of a job's summary.
    pub fn summary(&self) -> GroupSummary {
        GroupSummary {
            queued: self.queued,
            complete: self.completed,
            failed: self.failed + self.cancelled,
            running: self.running,
            starting: self.starting,
            lost: self.lost,
        }
    }
}
