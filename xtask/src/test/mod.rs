//! `cargo xtask test`: everything a change must pass, in the order in which it fails fastest.

mod components;
mod step;
mod tally;

use std::{path::Path, process::Command, time::Instant};

use anyhow::Result;

use crate::tools::Tools;
use step::{Outcome, Step};
use tally::Tally;

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only the steps whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Leave out the linters.
    #[arg(long)]
    no_lints: bool,
}

/// Runs all steps, also after one has failed; true when every one passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let root = crate::root();
    let started = Instant::now();
    let mut outcomes: Vec<Outcome> = Vec::new();
    components::provide();
    for step in steps(&root, options) {
        if options
            .only
            .as_ref()
            .is_some_and(|text| !step.name.contains(text.as_str()))
        {
            continue;
        }
        outcomes.push(step.run());
    }
    let wanted = |name: &str| {
        options
            .only
            .as_ref()
            .is_none_or(|text| name.contains(text.as_str()))
    };
    if wanted("end to end") {
        outcomes.push(end_to_end(&root));
    }
    summary(&outcomes, started);
    Ok(outcomes.iter().all(|outcome| outcome.passed))
}

fn steps(root: &Path, options: &Options) -> Vec<Step> {
    let cargo = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(args).current_dir(root);
        command
    };
    let mut steps = Vec::new();
    if !options.no_lints {
        steps.push(Step::plain(
            "formatting",
            cargo(&["fmt", "--all", "--check"]),
        ));
        steps.push(Step::plain(
            "lints",
            cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ]),
        ));
    }
    let tests = Step::counted(
        "unit and property tests",
        // Tests that pass are heard too: they say what they ran on, and what they could not try.
        cargo(&[
            "test",
            "--workspace",
            "--no-fail-fast",
            "--",
            "--show-output",
        ]),
        Tally::of_cargo,
    );
    let folder = root.to_owned();
    steps.push(tests.tried_again(move |failed| {
        let mut command = Command::new(env!("CARGO"));
        command
            .args(["test", "--workspace", "--no-fail-fast", "--"])
            .args(["--exact", "--test-threads=1"])
            .args(failed)
            .current_dir(&folder);
        command
    }));
    steps.push(Step::plain(
        "generated files",
        xtask(root, &["generate", "--check"]),
    ));
    // The whole workspace's features, so that nothing is built twice.
    steps.push(Step::plain(
        "the binary",
        cargo(&["build", "--workspace", "--bin", "sandlot"]),
    ));
    let mut doctor = Command::new(crate::target_folder().join("debug/sandlot"));
    doctor.arg("doctor");
    steps.push(Step::plain("what this machine offers", doctor));
    steps
}

/// Another chore of this program.
fn xtask(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.args(args).current_dir(root);
    command
}

/// The real kubectl, the real Python client and programs in Go against a `sandlot up` of this build.
fn end_to_end(root: &Path) -> Outcome {
    let started = Instant::now();
    eprintln!("── set up: kubectl, the Python client, Go, an S3 server and OpenSandbox's own");
    match Tools::install(root) {
        Ok(tools) => {
            let root = root.to_owned();
            let all = pytest(
                &tools,
                &root,
                &["tests".to_owned(), "sdk/python/tests".to_owned()],
            );
            Step::counted("end to end", all, Tally::of_pytest)
                .tried_again(move |failed| pytest(&tools, &root, failed))
                .run()
        }
        Err(error) => Outcome::broken("end to end", format!("{error:#}"), started.elapsed()),
    }
}

/// pytest on these files and tests.
fn pytest(tools: &Tools, root: &Path, what: &[String]) -> Command {
    let mut pytest = Command::new(&tools.python);
    if let Some(go) = &tools.go {
        pytest.env("GO", go);
    }
    if let Some(s3) = &tools.s3 {
        pytest.env("S3_SERVER", s3);
    }
    if let Some(server) = &tools.opensandbox {
        pytest.env("OPENSANDBOX_SERVER", server);
    }
    pytest
        .args(["-m", "pytest", "-q", "--color=yes"])
        .args(what)
        .env("SANDLOT", crate::target_folder().join("debug/sandlot"))
        .env("XTASK", crate::target_folder().join("debug/xtask"))
        .env("KUBECTL", &tools.kubectl)
        .current_dir(root);
    pytest
}

fn summary(outcomes: &[Outcome], started: Instant) {
    println!();
    let mut total = Tally::default();
    for outcome in outcomes {
        let mark = if outcome.passed { "ok  " } else { "FAIL" };
        let counts = outcome.tally.map(|t| format!("  {t}")).unwrap_or_default();
        println!(
            "{mark} {:<26} {:>7.1} s{counts}",
            outcome.name,
            outcome.took.as_secs_f64()
        );
        for name in &outcome.unsteady {
            println!("     passed only when run again: {name}");
        }
        for what in &outcome.skipped {
            println!("     skipped: {what}");
        }
        if let Some(tally) = outcome.tally {
            total += tally;
        }
        if !outcome.passed && outcome.tally.is_none_or(|t| t.failed == 0) {
            total.failed += 1;
        }
    }
    println!(
        "     {:<26} {:>7.1} s",
        "in all",
        started.elapsed().as_secs_f64()
    );
    println!();
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
}
