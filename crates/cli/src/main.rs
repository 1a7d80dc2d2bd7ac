//! `sandlot`: machines kept warm for agents.

mod args;
mod bench;
mod bridge;
mod claim;
mod copy;
mod doctor;
mod fleet;
mod folders;
mod gateway;
mod image;
mod interrupts;
mod local;
mod logging;
mod manifest;
mod memory;
mod operator;
mod pool;
mod process;
mod progress;
mod ps;
mod quickstart;
mod robot;
mod rules;
mod run;
mod show;
mod snapshots;
mod table;
mod target;
mod terminal;
mod transcript;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use args::{Cli, Command};
use clap::Parser;
use interrupts::Stopped;
use show::Unread;

fn main() -> ExitCode {
    // The node starts this very program again as the parent of its containers.
    sandlot_node::enter_if_called();
    // A robot's agent does so for the cells of its tasks.
    sandlot_robot::enter_if_called();
    // On a cluster's node it saves sandboxes' containers, under another name.
    if let Some(ended) = sandlot_committer::enter_if_called() {
        return ended;
    }
    let cli = Cli::parse();
    logging::begin(&cli.command);
    let ended = run(&cli.command);
    match ended {
        // What a command in a sandbox ended with is what we end with.
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => failed(&error),
    }
}

/// Says what went wrong; who stopped us or reads no further knows it already.
fn failed(error: &anyhow::Error) -> ExitCode {
    let stopped = error.downcast_ref().map(|Stopped { code }| *code);
    let silent = stopped.or_else(|| error.downcast_ref().map(|Unread| Unread::CODE));
    if let Some(code) = silent {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    eprintln!("sandlot: {}", words(error));
    ExitCode::FAILURE
}

/// The command, on a runtime of its own.
fn run(command: &Command) -> Result<i32> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(dispatch(command));
    // Whoever was still waiting for somebody to type something is not waited for.
    runtime.shutdown_background();
    ended
}

/// What went wrong, each reason after the one it led to. An answer of the API's says it all in
/// its message.
fn words(error: &anyhow::Error) -> String {
    let mut words = Vec::new();
    for reason in error.chain() {
        if let Some(kube::Error::Api(status)) = reason.downcast_ref() {
            words.push(status.message.clone());
            break;
        }
        words.push(reason.to_string());
    }
    words.join(": ")
}

/// The table of contents: each command and where it is.
async fn dispatch(command: &Command) -> Result<i32> {
    match command {
        Command::Up(options) => up::run(options).await?,
        Command::Quickstart => quickstart::run().await?,
        Command::Run(options) => return run::run(options).await,
        Command::Exec(options) => return run::exec(options).await,
        Command::Shell(options) => return run::shell(options).await,
        Command::Cp(options) => copy::run(options).await?,
        Command::Ps(options) => ps::run(options).await?,
        Command::Pool(command) => pool::run(command).await?,
        Command::Image(command) => image::run(command).await?,
        Command::Operator(options) => operator::run(options).await?,
        Command::Bridge(options) => bridge::run(options).await?,
        Command::Gateway(options) => gateway::run(options).await?,
        Command::Robot(options) => robot::run(options).await?,
        Command::Doctor(options) => doctor::run(options)?,
        Command::Bench(options) => bench::run(options).await?,
    }
    Ok(0)
}
