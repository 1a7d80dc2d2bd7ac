//! How many tests passed, as the test runners' closing lines say it.

use std::{fmt, ops::AddAssign};

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
}

impl Tally {
    /// `test result: ok. 12 passed; 0 failed; 1 ignored; …`
    pub(super) fn of_cargo(line: &str) -> Option<Tally> {
        let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        Some(Tally::of_words(counts.split(';')))
    }

    /// `12 passed, 1 failed, 2 skipped in 3.21s`, in colours or not.
    pub(super) fn of_pytest(line: &str) -> Option<Tally> {
        let plain = without_colours(line);
        let plain = plain.trim_matches(|c: char| c == '=' || c == ' ');
        let (counts, _) = plain.rsplit_once(" in ")?;
        let tally = Tally::of_words(counts.split(','));
        (tally != Tally::default()).then_some(tally)
    }

    /// Whether tests ran and none failed.
    pub(super) fn shows_success(self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    fn of_words<'a>(counts: impl Iterator<Item = &'a str>) -> Tally {
        let mut tally = Tally::default();
        for (number, word) in counts.filter_map(|count| count.trim().split_once(' ')) {
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => tally.passed += number,
                "failed" | "error" | "errors" => tally.failed += number,
                "ignored" | "skipped" => tally.skipped += number,
                _ => {}
            }
        }
        tally
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed", self.passed)?;
        for (count, word) in [(self.failed, "failed"), (self.skipped, "skipped")] {
            if count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        Ok(())
    }
}

/// The name of the test that a line says has failed: cargo's `test a::b ... FAILED`, pytest's
/// `FAILED tests/a.py::b - why`.
pub(super) fn failed(line: &str) -> Option<String> {
    let plain = without_colours(line);
    let of_cargo = plain
        .strip_prefix("test ")
        .and_then(|rest| rest.strip_suffix(" ... FAILED"));
    let of_pytest = ["FAILED ", "ERROR "]
        .iter()
        .find_map(|word| plain.strip_prefix(word))
        .filter(|rest| rest.contains(".py::"))
        .map(|rest| rest.split_once(" - ").map_or(rest, |(name, _)| name));
    of_cargo.or(of_pytest).map(str::to_owned)
}

/// What could not be tried on this machine, as the tests say it themselves: cargo's by a line
/// `skipped…` below the heading that names the test, pytest's by its closing list.
#[derive(Default)]
pub(super) struct Skips {
    test: String,
    pub(super) all: Vec<String>,
}

impl Skips {
    /// Reads one line of a step's output.
    pub(super) fn read(&mut self, line: &str) {
        let plain = without_colours(line);
        let heading = plain.strip_prefix("---- ");
        if let Some(name) = heading.and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.test = name.to_owned();
        }
        // What a test says that it has heard from another program is set off by bars.
        let said = plain.trim_start_matches(['|', ' ']);
        if let Some(why) = said.strip_prefix("skipped") {
            self.all.push(format!("{}{why}", self.test));
        } else if let Some(why) = plain.strip_prefix("SKIPPED ") {
            self.all.push(why.to_owned());
        }
    }
}

/// The line without terminal colour sequences.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, tail)| tail);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_closing_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            Tally::of_cargo(line),
            Some(Tally {
                passed: 12,
                failed: 3,
                skipped: 1
            })
        );
        assert_eq!(Tally::of_cargo("test tests::a_test ... ok"), None);
    }

    #[test]
    fn failed_tests_are_known_by_name() {
        assert_eq!(failed("test a::b ... FAILED").as_deref(), Some("a::b"));
        assert_eq!(
            failed("\u{1b}[31mFAILED\u{1b}[0m tests/a.py::b[c] - assert 1 == 2").as_deref(),
            Some("tests/a.py::b[c]")
        );
        assert_eq!(failed("test a::b ... ok"), None);
        assert_eq!(failed("FAILED to connect"), None);
    }

    #[test]
    fn what_was_skipped_is_named_with_its_reason() {
        let mut skips = Skips::default();
        for line in [
            "skipping is a word too",
            "---- pods::over_each_runtime stdout ----",
            "skipped for runsc: it is not on this machine",
            "test pods::over_each_runtime ... ok",
            "---- rootless::speaks stdout ----",
            "| skipped: without root there is none",
            "\u{1b}[33mSKIPPED\u{1b}[0m [1] tests/test_up.py:77: OCI runtimes need root here",
        ] {
            skips.read(line);
        }
        assert_eq!(
            skips.all,
            [
                "pods::over_each_runtime for runsc: it is not on this machine",
                "rootless::speaks: without root there is none",
                "[1] tests/test_up.py:77: OCI runtimes need root here",
            ]
        );
    }

    #[test]
    fn pytests_closing_line_is_counted_in_colours_or_not() {
        let plain = "=== 1 failed, 2 passed, 4 skipped in 0.12s ===";
        let coloured = "\u{1b}[32m\u{1b}[1m2 passed\u{1b}[0m, 1 error\u{1b}[32m in 0.01s\u{1b}[0m";
        assert_eq!(
            Tally::of_pytest(plain),
            Some(Tally {
                passed: 2,
                failed: 1,
                skipped: 4
            })
        );
        assert_eq!(
            Tally::of_pytest(coloured),
            Some(Tally {
                passed: 2,
                failed: 1,
                skipped: 0
            })
        );
        assert_eq!(Tally::of_pytest("tests/test_kubectl.py .... [100%]"), None);
    }
}
