//! From what the keeper saw to an outcome with a reason in words.

use std::path::Path;

use jiff::Timestamp;
use nix::{errno::Errno, libc};

use crate::{
    note::{Note, Stage, Step},
    outcome::{End, Outcome, words},
    record::Record,
};

/// The end that a wait status tells.
pub(crate) fn ended(status: i32) -> End {
    if libc::WIFSIGNALED(status) {
        End::Signalled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    }
}

/// Why a command could not be started, as an end and in words.
pub(crate) fn not_started(record: &Record, step: Step, error: i32) -> (End, String) {
    let errno = Errno::from_raw(error);
    let name = record.argv.first().map_or("", String::as_str);
    // Whoever reads this may read it on a terminal, which a name must not steer.
    let program = name.escape_debug();
    let says = errno.desc();
    match (step, errno) {
        (Step::Exec, Errno::ENOENT) if name.contains('/') && is_there(record, name) => (
            End::NotStartable,
            format!("{program} is there, but the interpreter it asks for is not"),
        ),
        (Step::Exec, Errno::ENOENT) if name.contains('/') => {
            (End::NotFound, format!("{program}: there is no such file"))
        }
        (Step::Exec, Errno::ENOENT) => (
            End::NotFound,
            format!("{program}: no such program along PATH"),
        ),
        (Step::Exec, Errno::EACCES) => (
            End::NotStartable,
            format!("{program} may not be executed: it is a folder or lacks the permission"),
        ),
        (Step::Exec, Errno::ENOEXEC) => (
            End::NotStartable,
            format!("{program} is not a program this machine can run"),
        ),
        (Step::Exec, _) => (
            End::NotStartable,
            format!("{program} could not be executed: {says}"),
        ),
        (Step::Directory, _) => {
            let directory = record.cwd.as_deref().unwrap_or("").escape_debug();
            (
                End::NotStartable,
                format!("the working directory {directory} could not be entered: {says}"),
            )
        }
        (Step::Enter, _) => (
            End::NotStartable,
            format!(
                "the other container could not be entered: {says}; this needs CAP_SYS_CHROOT and CAP_SETPCAP"
            ),
        ),
        (Step::User, _) => (
            End::NotStartable,
            format!("the user could not be changed: {says}"),
        ),
        (Step::Terminal, _) => (
            End::NotStartable,
            format!("the terminal could not be taken: {says}"),
        ),
        (Step::Fork, _) => (
            End::NotStartable,
            format!("no process could be made: {says}"),
        ),
    }
}

fn is_there(record: &Record, program: &str) -> bool {
    Path::new(record.cwd.as_deref().unwrap_or(""))
        .join(program)
        .exists()
}

/// The outcome of a run that ended so, with what its keeper noted.
pub(crate) fn outcome(record: &Record, end: End, note: Option<Note>, now: Timestamp) -> Outcome {
    let time = |nanoseconds: i64| {
        Timestamp::from_nanosecond(nanoseconds.into())
            .ok()
            .filter(|_| nanoseconds > 0)
    };
    let reason = match note.map(|note| (note.stage, note.detail)) {
        Some((Stage::Failed(step), error)) if matches!(end, End::NotFound | End::NotStartable) => {
            not_started(record, step, error).1
        }
        _ => words(end, record.timeout),
    };
    Outcome {
        end,
        reason,
        usage: note.map(|note| note.usage).unwrap_or_default(),
        started: note.and_then(|note| time(note.started)).unwrap_or(now),
        finished: note.and_then(|note| time(note.finished)).unwrap_or(now),
    }
}
