//! One step of the test command: a program whose output is shown as it comes.
//!
//! Tests that fail are run once more, alone: a machine that was too busy for one of them is told
//! apart from a fault, and the summary names each that needed it.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::tally::{self, Skips, Tally};

/// Reads a line of a step's output for what it says of tests.
type Count = fn(&str) -> Option<Tally>;

/// Runs just the tests of these names.
type Again = Box<dyn Fn(&[String]) -> Command>;

/// More failures than this are no accident of a busy machine.
const MOST_AGAIN: usize = 12;

/// A program to run.
pub(super) struct Step {
    pub(super) name: &'static str,
    command: Command,
    count: Option<Count>,
    again: Option<Again>,
}

/// What one run of a program showed.
#[derive(Default)]
struct Run {
    succeeded: bool,
    tally: Tally,
    failed: Vec<String>,
    skips: Skips,
}

/// How a step ended.
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) passed: bool,
    pub(super) tally: Option<Tally>,
    pub(super) took: Duration,
    /// The tests that passed only when they were run again.
    pub(super) unsteady: Vec<String>,
    /// What could not be tried here, and why.
    pub(super) skipped: Vec<String>,
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
            unsteady: Vec::new(),
            skipped: Vec::new(),
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
            again: None,
        }
    }

    /// A step whose output says how many tests ran.
    pub(super) fn counted(name: &'static str, command: Command, count: Count) -> Step {
        Step {
            name,
            command,
            count: Some(count),
            again: None,
        }
    }

    /// With a way to run only what failed.
    pub(super) fn tried_again(mut self, again: impl Fn(&[String]) -> Command + 'static) -> Step {
        self.again = Some(Box::new(again));
        self
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> Outcome {
        eprintln!("── {}", self.name);
        let started = Instant::now();
        let mut first = match run(&mut self.command, self.count) {
            Ok(first) => first,
            Err(error) => {
                let why = format!("cannot run {:?}: {error}", self.command);
                return Outcome::broken(self.name, why, started.elapsed());
            }
        };
        let mut outcome = Outcome {
            name: self.name,
            // A step that was to run tests and ran none has not shown anything.
            passed: first.succeeded && (self.count.is_none() || first.tally.shows_success()),
            tally: self.count.map(|_| first.tally),
            took: started.elapsed(),
            unsteady: Vec::new(),
            skipped: std::mem::take(&mut first.skips.all),
        };
        if !outcome.passed {
            self.try_again(first, &mut outcome);
            outcome.took = started.elapsed();
        }
        outcome
    }

    /// A failure counts when it is there again.
    fn try_again(&self, first: Run, outcome: &mut Outcome) {
        let (Some(again), Some(tally)) = (&self.again, outcome.tally.as_mut()) else {
            return;
        };
        let failed = u32::try_from(first.failed.len()).unwrap_or(u32::MAX);
        if first.failed.is_empty() || first.failed.len() > MOST_AGAIN || failed != tally.failed {
            return;
        }
        eprintln!("── {}: once more, {}", self.name, first.failed.join(", "));
        let second = run(&mut again(&first.failed), self.count).unwrap_or_default();
        if second.succeeded && second.tally.failed == 0 && second.tally.passed >= failed {
            tally.passed += failed;
            tally.failed = 0;
            outcome.passed = true;
            outcome.unsteady = first.failed;
        }
    }
}

/// Runs a program to its end, and reads what its lines say of tests.
fn run(command: &mut Command, count: Option<Count>) -> std::io::Result<Run> {
    if count.is_some() {
        command.stdout(Stdio::piped());
    }
    let mut child = command.spawn()?;
    let mut run = Run::default();
    if let (Some(count), Some(stdout)) = (count, child.stdout.take()) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(more) = count(&line) {
                run.tally += more;
            }
            run.failed.extend(tally::failed(&line));
            run.skips.read(&line);
            println!("{line}");
        }
    }
    run.succeeded = child.wait().is_ok_and(|status| status.success());
    Ok(run)
}
