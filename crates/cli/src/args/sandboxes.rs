//! What the commands that work in sandboxes can be told.

use clap::Args;

use super::{Output, Target};

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The pool to claim from.
    #[arg(long, conflicts_with = "image", required_unless_present = "image")]
    pub(crate) pool: Option<String>,
    /// The image to run; a pool of one is made for it the first time.
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// Keep the sandbox when the command has ended, and say its name.
    #[arg(long)]
    pub(crate) keep: bool,
    /// How to print what the command prints: as it is, or in lines of JSON.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The sandbox.
    pub(crate) sandbox: String,
    /// How to print what the command prints: as it is, or in lines of JSON.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Options of `shell`.
#[derive(Debug, Args)]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The sandbox.
    pub(crate) sandbox: String,
}

/// Options of `cp`.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    #[command(flatten)]
    pub(crate) target: Target,
    /// A path here, or SANDBOX:PATH.
    pub(crate) from: String,
    /// A path here, or SANDBOX:PATH.
    pub(crate) to: String,
}

/// Options of `ps` and `pool list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How to print it.
    #[arg(short, long, default_value = "text")]
    pub(crate) output: Output,
}
