//! One step of the test command: a program whose output is shown as it comes.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::tally::Tally;

/// Reads a line of a step's output for what it says of tests.
type Count = fn(&str) -> Option<Tally>;

/// A program to run.
pub(super) struct Step {
    pub(super) name: &'static str,
    command: Command,
    count: Option<Count>,
}

/// How a step ended.
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) passed: bool,
    pub(super) tally: Option<Tally>,
    pub(super) took: Duration,
}

impl Outcome {
    /// A step that could not even begin.
    pub(super) fn broken(name: &'static str, why: String, took: Duration) -> Outcome {
        eprintln!("{name}: {why}");
        Outcome {
            name,
            passed: false,
            tally: None,
            took,
        }
    }
}

impl Step {
    /// A step judged by its exit code alone.
    pub(super) fn plain(name: &'static str, command: Command) -> Step {
        Step {
            name,
            command,
            count: None,
        }
    }

    /// A step whose output says how many tests ran.
    pub(super) fn counted(name: &'static str, command: Command, count: Count) -> Step {
        Step {
            name,
            command,
            count: Some(count),
        }
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> Outcome {
        eprintln!("── {}", self.name);
        let started = Instant::now();
        if self.count.is_some() {
            self.command.stdout(Stdio::piped());
        }
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(error) => {
                return Outcome::broken(
                    self.name,
                    format!("cannot run {:?}: {error}", self.command),
                    started.elapsed(),
                );
            }
        };
        let mut tally = self.count.map(|_| Tally::default());
        if let (Some(count), Some(stdout)) = (self.count, child.stdout.take()) {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let (Some(sum), Some(more)) = (tally.as_mut(), count(&line)) {
                    *sum += more;
                }
                println!("{line}");
            }
        }
        let passed = child.wait().is_ok_and(|status| status.success());
        // A step that was to run tests and ran none has not shown anything.
        let passed = passed && tally.is_none_or(|t| t.passed > 0 && t.failed == 0);
        Outcome {
            name: self.name,
            passed,
            tally,
            took: started.elapsed(),
        }
    }
}
