//! What the end of a step means, in a shell user's terms.

use std::time::Duration;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// The time that it was given itself was over.
    TimedOut(Duration),
    /// The time of the whole task was over.
    OutOfTime(Duration),
    /// It could not be started, or not be followed to its end.
    Broken {
        /// The code that a shell would give: 127 not found, 126 not executable, else 1.
        code: i32,
        /// Why, in words.
        why: String,
    },
}

/// A step's end as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code as a shell would report it.
    pub code: i32,
    /// Why it failed, in words; nothing after success.
    pub error: Option<String>,
}

impl Ending {
    /// The code and the words for it.
    pub fn report(&self) -> Ended {
        let (code, error) = match self {
            Self::Exited(0) => (0, None),
            Self::Exited(code) => (*code, Some(exit_words(*code))),
            Self::Killed(signal) => {
                let hint = if *signal == 9 {
                    " (out of memory, or killed from outside)"
                } else {
                    ""
                };
                (
                    128 + signal,
                    Some(format!(
                        "killed by signal {signal}, {}{hint}",
                        signal_name(*signal)
                    )),
                )
            }
            Self::TimedOut(limit) => late("", *limit),
            Self::OutOfTime(limit) => late("the task ", *limit),
            Self::Broken { code, why } => (*code, Some(printable(why))),
        };
        Ended { code, error }
    }
}

/// The code that timeout(1) gives, and the limit as the user wrote it.
fn late(who: &str, limit: Duration) -> (i32, Option<String>) {
    let limit = sandlot_api::GoDuration(limit);
    let words = format!("{who}timed out after {limit}: the step and all its processes were ended");
    (124, Some(words))
}

/// Words that may name what a user named, in a form that cannot steer a terminal.
fn printable(words: &str) -> String {
    words
        .chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

fn exit_words(code: i32) -> String {
    match code {
        126 => "exit code 126: the command could not be executed".to_owned(),
        127 => "exit code 127: the command was not found".to_owned(),
        129..=192 => format!(
            "exit code {code}: ended as by signal {}",
            signal_name(code - 128)
        ),
        _ => format!("exit code {code}"),
    }
}

/// A signal's name; its number where it has none here.
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 15] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM",
    ];
    usize::try_from(signal - 1)
        .ok()
        .and_then(|index| NAMES.get(index))
        .map_or_else(|| format!("number {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_read_as_a_shell_user_expects() {
        let limit = Duration::from_secs(30);
        for (ending, code, words) in [
            (Ending::Exited(0), 0, None),
            (Ending::Exited(3), 3, Some("exit code 3")),
            (Ending::Exited(127), 127, Some("not found")),
            (Ending::Exited(126), 126, Some("not be executed")),
            (Ending::Exited(137), 137, Some("SIGKILL")),
            (Ending::Killed(9), 137, Some("SIGKILL")),
            (Ending::Killed(15), 143, Some("SIGTERM")),
            (Ending::Killed(64), 192, Some("number 64")),
            (Ending::TimedOut(limit), 124, Some("timed out after 30s")),
            (
                Ending::OutOfTime(limit),
                124,
                Some("the task timed out after 30s"),
            ),
        ] {
            let ended = ending.report();
            assert_eq!(ended.code, code, "{ending:?}");
            match words {
                None => assert_eq!(ended.error, None),
                Some(words) => assert!(ended.error.as_ref().unwrap().contains(words), "{ended:?}"),
            }
        }
    }

    #[test]
    fn no_reason_steers_the_terminal_it_is_shown_on() {
        let why = "\u{1b}[2Jgrün \u{9b}\n\0".to_owned();
        let ended = Ending::Broken { code: 1, why }.report();
        assert_eq!(ended.error.unwrap(), "\\u{1b}[2Jgrün \\u{9b}\\n\\u{0}");
    }
}
