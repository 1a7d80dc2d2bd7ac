//! What people type.

mod bench;
mod image;
mod pool;
mod sandboxes;
mod services;
mod up;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use bench::{Bench, Subject};
pub(crate) use image::Image;
pub(crate) use pool::Pool;
pub(crate) use sandboxes::{Copy, Exec, List, Run, Shell};
pub(crate) use services::{Bridge, Gateway, Operator, RobotRules};
pub(crate) use up::{MissingImages, Up};

/// Sandlot keeps machines warm for agents.
#[derive(Debug, Parser)]
#[command(name = "sandlot", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The things that `sandlot` does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine: API, node and controllers.
    Up(Up),
    /// Start everything, take a sandbox from a warm pool, run a task in it, and show each step.
    Quickstart,
    /// Claim a sandbox, run a command in it, stream its output, and exit with its code.
    Run(Run),
    /// Run a command in a sandbox that is there already.
    Exec(Exec),
    /// Open a terminal in a sandbox.
    Shell(Shell),
    /// Copy files into or out of a sandbox.
    Cp(Copy),
    /// List sandboxes.
    Ps(List),
    /// Make, list, scale and delete warm pools.
    #[command(subcommand)]
    Pool(Pool),
    /// List, pull, import, push and remove the images on this machine.
    #[command(subcommand)]
    Image(Image),
    /// Run the controllers on a cluster; agents come into its pods from an image.
    Operator(Operator),
    /// Serve sessions over REST: the Sandbox Control Plane.
    Gateway(Gateway),
    /// Run a robot's agent: registers over MQTT, and runs the robot's tasks.
    Robot(sandlot_robot::Options),
    /// Carry what robots say to a cluster, and back.
    Bridge(Bridge),
    /// Say what this machine offers for isolation, and what is missing.
    Doctor(Doctor),
    /// Measure what the specification promises.
    Bench(Bench),
}

/// Which API, and where in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The kubeconfig [default: KUBECONFIG, else that of `sandlot up`, else ~/.kube/config]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The namespace [default: the kubeconfig's]
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How to print it.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}
