//! What `sandlot bench` can be told.

use clap::{Args, ValueEnum};

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure.
    pub(crate) what: Subject,
    /// Print the numbers as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// How many robots there are, for `robots`.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) robots: u32,
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
    /// A trivial command through an agent, and a flood of output.
    Exec,
    /// Sessions over REST: made, used by one and by many, and a large file.
    Session,
    /// Many sandboxes as one object, and tasks in them.
    Batch,
    /// Robots that register, beat, work and are killed, through a real Mosquitto.
    Robots,
}
