//! The one table of a task's states: what may follow what, and what a report does to a status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::robot::{TaskEvent, TaskState, TaskStatus, wire::TaskReport};

/// How many events of a task are kept.
const EVENTS: usize = 20;
/// How many bytes of output are kept together, and of each stream.
const LOGS: usize = 10 * 1024;
const STREAM: usize = 5 * 1024;

/// How far a task is in its life: it only grows within one start of the task.
pub fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::Pending => 0,
        TaskState::Dispatching | TaskState::Scheduled => 1,
        TaskState::Accepted => 2,
        TaskState::Downloading => 3,
        TaskState::Starting => 4,
        TaskState::Running => 5,
        TaskState::Stopping => 6,
        TaskState::Exited => 7,
        TaskState::Lost => 0,
        TaskState::Completed | TaskState::Failed | TaskState::Cancelled | TaskState::Rejected => 8,
    }
}

/// Whether a robot's word that a task is in `to` may follow `from`. `again` says that the robot
/// has started it once more since.
pub fn follows(from: TaskState, to: TaskState, again: bool) -> bool {
    if from.is_terminal() || to == TaskState::Lost || to == TaskState::Pending {
        return false;
    }
    again || rank(to) >= rank(from)
}

/// The number of a report, and what it is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number<'a> {
    /// What it is counted in.
    pub spool: &'a str,
    /// The number.
    pub sequence: i64,
}

/// What a robot's report makes of a task's status; nothing if it is old, repeated or impossible.
///
/// The same report twice, or reports out of order, come to the same status.
pub fn apply(
    status: &TaskStatus,
    report: &TaskReport,
    number: Option<Number<'_>>,
    at: Timestamp,
) -> Option<TaskStatus> {
    let from = status.state.unwrap_or_default();
    let starts = status.restart_count.unwrap_or(0);
    let again = report.restart_count.is_some_and(|count| count > starts);
    let repeated = number.is_some_and(|number| {
        status.spool.as_deref() == Some(number.spool)
            && status.sequence.is_some_and(|seen| number.sequence <= seen)
    });
    if repeated || !follows(from, report.state, again) {
        return None;
    }
    let mut next = status.clone();
    // An agent that speaks of an end and does not say which has ended well or not.
    next.state = Some(match report.state {
        TaskState::Exited => match report.exit_code {
            Some(0) => TaskState::Completed,
            _ => TaskState::Failed,
        },
        state => state,
    });
    if let Some(number) = number {
        next.sequence = Some(number.sequence);
        next.spool = Some(number.spool.to_owned());
    }
    next.message = report.message.clone().or(match report.state == from {
        true => next.message,
        false => None,
    });
    next.reason = report.reason.clone();
    next.exit_code = report.exit_code.or(next.exit_code);
    next.signal = report.signal.or(next.signal);
    next.restart_count = report.restart_count.or(next.restart_count);
    next.last_restart_time = report.last_restart_at.map(Time).or(next.last_restart_time);
    next.usage = report.usage.clone().or(next.usage);
    take_times(&mut next, report, at);
    take_output(&mut next, report);
    if let Some(event) = &report.event {
        note(&mut next, event, report.message.as_deref(), at);
    }
    (next != *status).then_some(next)
}

/// When it started and ended: as the robot says, or as its states say for agents that do not.
fn take_times(next: &mut TaskStatus, report: &TaskReport, at: Timestamp) {
    if let Some(started) = report.started_at {
        next.started_at = Some(Time(started));
    } else if report.state == TaskState::Running && next.started_at.is_none() {
        next.started_at = Some(Time(at));
    }
    if next.state.is_some_and(TaskState::is_terminal) {
        next.finished_at = Some(Time(report.finished_at.unwrap_or(at)));
        if next.started_at.is_none() && report.exit_code.is_some() {
            next.started_at = next.finished_at.clone();
        }
    }
}

fn take_output(next: &mut TaskStatus, report: &TaskReport) {
    if let Some(stdout) = &report.stdout {
        next.logs_stdout = Some(end_of(stdout, STREAM).to_owned());
    }
    if let Some(stderr) = &report.stderr {
        next.logs_stderr = Some(end_of(stderr, STREAM).to_owned());
    }
    if report.stdout.is_some() || report.stderr.is_some() {
        let both = [&next.logs_stdout, &next.logs_stderr];
        let text: String = both.into_iter().flatten().map(String::as_str).collect();
        next.logs = (!text.is_empty()).then(|| end_of(&text, LOGS).to_owned());
    }
}

/// Writes down that something happened.
pub fn note(status: &mut TaskStatus, kind: &str, message: Option<&str>, at: Timestamp) {
    let events = status.events.get_or_insert_default();
    events.push(TaskEvent {
        kind: end_of(kind, 64).to_owned(),
        time: Time(at),
        display_message: message.map(|text| end_of(text, 1024).to_owned()),
        details: None,
    });
    let surplus = events.len().saturating_sub(EVENTS);
    events.drain(..surplus);
}

/// The last so many bytes of a text, from the start of a character.
pub fn end_of(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
