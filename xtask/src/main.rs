//! The project's own chores: generate, test, package.

mod deploy;
mod generate;
mod protobuf_fields;
mod robot;
mod test;
mod tools;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Chores of the Sandlot repository.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install and start what the tests need, run all of them, and sum up.
    Test(test::Options),
    /// Write the files that are made from the Rust types; `--check` only compares.
    Generate(generate::Options),
    /// Apply the custom resources to the cluster that kubectl talks to (`make install`).
    Install,
    /// Remove the custom resources and every object of theirs (`make uninstall`).
    Uninstall,
    /// Apply the operator (`make deploy IMG=… TASK_EXECUTOR_IMG=…`).
    Deploy(deploy::Deploy),
    /// Remove the operator (`make undeploy`).
    Undeploy,
    /// Build the operator's and the agent's images, `--push` them too (`make docker-build
    /// docker-push docker-build-task-executor docker-push-task-executor`).
    Image(deploy::Image),
    /// Build the robot's agent by itself, static, for aarch64 or x86_64.
    Robot(robot::Options),
    /// Write the table of the protobuf fields of built-in kinds, from the published Go types.
    ProtobufFields {
        /// Only say whether the table is up to date.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Generate(options) => generate::run(&options),
        Chore::Install => deploy::install(),
        Chore::Uninstall => deploy::uninstall(),
        Chore::Deploy(options) => deploy::deploy(&options),
        Chore::Undeploy => deploy::undeploy(),
        Chore::Image(options) => deploy::image(&options),
        Chore::Robot(options) => robot::build(&options),
        Chore::ProtobufFields { check } => protobuf_fields::run(check),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The root of the checkout, wherever the chore is called from.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Where cargo puts what it builds.
fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
