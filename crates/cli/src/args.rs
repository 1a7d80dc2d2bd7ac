//! What people type.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Say what this machine offers for isolation, and what is missing.
    Doctor(Doctor),
    /// Measure what the specification promises.
    Bench(Bench),
}

/// Options of `up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept [default: ~/.local/share/sandlot]
    #[arg(long, value_name = "DIR", env = "SANDLOT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    pub(crate) listen: SocketAddr,
    /// Where to write the kubeconfig [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Keep nothing: objects in memory, files in a temporary folder.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// What to do about an image that cannot be had.
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub(crate) missing_images: MissingImages,
    /// Close every way from the pods to other machines.
    #[arg(long)]
    pub(crate) no_egress: bool,
}

/// What to do about an image that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MissingImages {
    /// The pod waits with ImagePullBackOff, as on any cluster.
    Fail,
    /// The container runs on this machine's own /usr, with a Warning event that says so.
    Host,
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

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure.
    pub(crate) what: Subject,
    /// Print the numbers as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The embedded Kubernetes API.
    Api,
    /// The embedded node.
    Node,
    /// Taking a sandbox from a warm pool.
    Claim,
    /// A trivial task.
    Task,
    /// A command through the agent.
    Exec,
}
