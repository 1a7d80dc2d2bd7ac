//! Commands: whom they are for, what came of them on each robot, and when that is all.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::robot::{
    Command, CommandResult, CommandResultState, CommandState, CommandStatus, Robot,
    wire::{COMMAND_OUTPUT, CommandReport},
};
use sandlot_decide::{
    expiry::later,
    robots::{constraint::selects, course::end_of},
};

/// How long a command has when it does not say.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
/// How much longer a robot may take to say what came of one that it did in time.
const WORD: std::time::Duration = std::time::Duration::from_secs(5);

/// What a command's status is now, given what the robots have said; and when to look again.
pub(crate) fn observe<'a>(
    command: &Command,
    robots: impl Iterator<Item = (&'a String, &'a Robot)>,
    said: &[(String, CommandReport, Timestamp)],
    now: Timestamp,
) -> (CommandStatus, Option<Timestamp>) {
    let mut status = command.status.clone().unwrap_or_default();
    if status.results.is_none() {
        status = choose(command, robots, now);
    }
    let results = status.results.get_or_insert_default();
    for (robot, report, at) in said {
        let known = results.iter_mut().find(|result| result.robot == *robot);
        if let Some(result) = known.filter(|result| !result.state.is_terminal()) {
            take(result, report, *at);
        }
    }
    let over = status
        .expires_at
        .as_ref()
        .is_some_and(|end| later(end.0, WORD) <= now);
    let cancelled = command.spec.cancel.unwrap_or(false);
    for result in results
        .iter_mut()
        .filter(|result| !result.state.is_terminal())
    {
        // One that is being done may still be done.
        if cancelled && result.state == CommandResultState::Pending {
            result.state = CommandResultState::Cancelled;
            result.finished_at = Some(Time(now));
        } else if over {
            result.state = CommandResultState::Expired;
            result.message = Some("the robot said nothing within the deadline".to_owned());
            result.finished_at = Some(Time(now));
        }
    }
    settle(&mut status, now);
    let open = matches!(status.state, Some(CommandState::Running));
    let wake = status
        .expires_at
        .as_ref()
        .filter(|_| open)
        .map(|end| later(end.0, WORD));
    (status, wake)
}

/// The robots that a command is for, chosen once.
fn choose<'a>(
    command: &Command,
    robots: impl Iterator<Item = (&'a String, &'a Robot)>,
    now: Timestamp,
) -> CommandStatus {
    let named = command.spec.robots.iter().flatten().cloned();
    let mut chosen: BTreeSet<String> = named.collect();
    if let Some(selector) = &command.spec.robot_selector {
        let empty = Default::default();
        let fitting = robots
            .filter(|(_, robot)| selects(selector, robot.spec.labels.as_ref().unwrap_or(&empty)));
        chosen.extend(fitting.map(|(name, _)| name.clone()));
    }
    let made = command
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |made| made.0);
    let deadline = command
        .spec
        .deadline
        .map_or(DEADLINE, |deadline| deadline.0);
    let results = chosen.into_iter().map(|robot| CommandResult {
        robot,
        ..CommandResult::default()
    });
    CommandStatus {
        expires_at: Some(Time(later(made, deadline))),
        results: Some(results.collect()),
        ..CommandStatus::default()
    }
}

fn take(result: &mut CommandResult, report: &CommandReport, at: Timestamp) {
    result.state = report.state;
    result.exit_code = report.exit_code.or(result.exit_code);
    result.message = report
        .message
        .as_deref()
        .map(|text| end_of(text, 1024).to_owned());
    let output = report.output.as_deref();
    result.output = output.map(|text| end_of(text, COMMAND_OUTPUT).to_owned());
    if report.state.is_terminal() {
        result.finished_at = Some(Time(at));
    }
}

fn settle(status: &mut CommandStatus, now: Timestamp) {
    let results = status.results.as_deref().unwrap_or(&[]);
    let count = |pick: fn(&CommandResultState) -> bool| {
        let picked = results.iter().filter(|result| pick(&result.state));
        i32::try_from(picked.count()).unwrap_or(i32::MAX)
    };
    let open = count(|state| !state.is_terminal());
    let cancelled = count(|state| *state == CommandResultState::Cancelled);
    status.total = i32::try_from(results.len()).unwrap_or(i32::MAX);
    status.succeeded = count(|state| *state == CommandResultState::Succeeded);
    status.failed = status.total - open - status.succeeded;
    status.message = (status.total == 0).then(|| "no robot was named or selected".to_owned());
    status.state = Some(if open > 0 {
        CommandState::Running
    } else if cancelled > 0 {
        CommandState::Cancelled
    } else if status.failed > 0 || status.total == 0 {
        CommandState::Failed
    } else {
        CommandState::Succeeded
    });
    if open == 0 && status.completed_at.is_none() {
        status.completed_at = Some(Time(now));
    }
}
