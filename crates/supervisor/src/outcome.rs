//! How a run ended, in numbers and in words.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What ended it.
    pub end: End,
    /// The same in words a person understands.
    pub reason: String,
    /// What it used.
    pub usage: Usage,
    /// When it began, as far as it did.
    pub started: Timestamp,
    /// When it was over.
    pub finished: Timestamp,
}

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// It ended by itself with this code.
    Exited(i32),
    /// A signal that the supervisor did not send ended it.
    Signalled(i32),
    /// Its time was up; `killed` when it ignored TERM.
    TimedOut {
        /// Whether it took a KILL.
        killed: bool,
    },
    /// Somebody asked for its end; `killed` when it ignored TERM.
    Stopped {
        /// Whether it took a KILL.
        killed: bool,
    },
    /// There is no such program.
    NotFound,
    /// The program is there but cannot be started as asked.
    NotStartable,
    /// It was going when the machine or its keeper went; nobody knows how it ended.
    Lost,
}

impl End {
    /// The exit code a shell would report.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => 128 + signal,
            Self::TimedOut { .. } => 124,
            Self::Stopped { killed: false } => 128 + libc::SIGTERM,
            Self::Stopped { killed: true } | Self::Lost => 128 + libc::SIGKILL,
            Self::NotFound => 127,
            Self::NotStartable => 126,
        }
    }

    /// The signal that ended it, where one did.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Signalled(signal) => Some(signal),
            Self::TimedOut { killed } | Self::Stopped { killed } => {
                Some(if killed { libc::SIGKILL } else { libc::SIGTERM })
            }
            _ => None,
        }
    }

    /// Whether the command did what it was asked to.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// What a command and the children it waited for used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time in user code.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The most memory one process held at once, in bytes.
    pub peak_memory: u64,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes written to disks.
    pub written: u64,
}

/// The words for an end that needs no more facts than itself.
pub(crate) fn words(end: End, timeout: Option<Duration>) -> String {
    match end {
        End::Exited(0) => "ended by itself".to_owned(),
        End::Exited(code) => format!("ended with exit code {code}"),
        End::Signalled(signal) => format!("ended by signal {}", signal_name(signal)),
        End::TimedOut { killed } => {
            let limit = timeout.map_or_else(String::new, |t| format!(" of {t:?}"));
            let how = if killed {
                "; it ignored SIGTERM and was killed"
            } else {
                ""
            };
            format!("ran into its time limit{limit}{how}")
        }
        End::Stopped { killed: false } => "stopped on request".to_owned(),
        End::Stopped { killed: true } => {
            "stopped on request; it ignored SIGTERM and was killed".to_owned()
        }
        End::NotFound => "the program was not found".to_owned(),
        End::NotStartable => "the program could not be started".to_owned(),
        End::Lost => {
            "was lost with the machine or container it ran in; how it ended is not known".to_owned()
        }
    }
}

/// The usual name of a signal, such as `SIGTERM`, or its number.
pub fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_a_shell_reports() {
        for (end, code) in [
            (End::Exited(3), 3),
            (End::Signalled(9), 137),
            (End::Signalled(11), 139),
            (End::TimedOut { killed: true }, 124),
            (End::Stopped { killed: false }, 143),
            (End::NotFound, 127),
            (End::NotStartable, 126),
        ] {
            assert_eq!(end.code(), code, "{end:?}");
        }
    }

    #[test]
    fn the_reason_names_the_signal_and_the_limit() {
        assert_eq!(words(End::Signalled(9), None), "ended by signal SIGKILL");
        assert_eq!(
            words(
                End::TimedOut { killed: true },
                Some(Duration::from_millis(1500))
            ),
            "ran into its time limit of 1.5s; it ignored SIGTERM and was killed"
        );
    }
}
