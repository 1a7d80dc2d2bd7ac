//! What `sandlot pool` can be told.

use clap::Subcommand;

use super::{List, Output, Target};

/// What to do with pools.
#[derive(Debug, Subcommand)]
pub(crate) enum Pool {
    /// Make a pool, and wait until its pods are warm.
    Create {
        #[command(flatten)]
        target: Target,
        /// Its name.
        name: String,
        /// The image of its pods.
        #[arg(long)]
        image: String,
        /// How many idle pods to keep.
        #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
        replicas: u16,
        /// How to print what was made.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// List pools.
    List(List),
    /// Change how many idle pods a pool keeps.
    Scale {
        #[command(flatten)]
        target: Target,
        /// Its name.
        name: String,
        /// How many idle pods to keep.
        #[arg(allow_negative_numbers = true)]
        replicas: u16,
        /// How to print what it is now.
        #[arg(short, long, default_value = "text")]
        output: Output,
    },
    /// Delete a pool.
    Delete {
        #[command(flatten)]
        target: Target,
        /// Its name.
        name: String,
    },
}
