//! Saving the containers of a pod as images, on a node whose containers are containerd's.
//!
//! This is what runs in the Job by which a sandbox on a cluster is saved, under the name
//! `image-committer` and with the arguments of the published committer. It asks containerd over
//! its socket alone: the containers rest while containerd packs what they have written, then go
//! on, and base and new layer are given to the registry from containerd's store. It needs no
//! capability and mounts nothing itself.
#![warn(missing_docs)]

mod commit;
mod containerd;
mod image;
mod order;
mod wire;

use std::{env, ffi::OsStr, io::Write as _, path::Path, process::ExitCode};

pub use commit::CommitError;
use order::{Order, Surroundings};

/// The name under which this program is a committer.
const NAME: &str = "image-committer";

/// Commits and ends if this program was called by the committer's name.
pub fn enter_if_called() -> Option<ExitCode> {
    let mut arguments = env::args();
    let name = arguments.next()?;
    if Path::new(&name).file_name() != Some(OsStr::new(NAME)) {
        return None;
    }
    let order = Order::read(arguments.collect(), env::var("SOURCE_POD_UID").ok());
    let around = Surroundings::read(|name| env::var(name).ok());
    let ended = order.map_err(CommitError::Order).and_then(|order| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(CommitError::Start)?;
        runtime.block_on(carry_out(order, &around))
    });
    match ended {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // Also where whoever asked for the job looks for its last words.
            let _ = std::fs::write(&around.last_words, error.to_string());
            let _ = writeln!(std::io::stderr(), "{NAME}: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

/// Carries out an order, and leaves no container frozen, whatever comes between.
async fn carry_out(order: Order, around: &Surroundings) -> Result<(), CommitError> {
    let containerd = containerd::Containerd::connect(&around.socket, &around.namespace).await?;
    match order {
        Order::Unpause { pod, containers } => commit::thaw(&containerd, &pod, &containers).await,
        Order::Commit { pod, containers } => {
            let saved = commit::save(&containerd, around, &pod, &containers).await?;
            let report = serde_json::json!({ "containers": saved });
            std::fs::write(&around.last_words, report.to_string()).map_err(CommitError::Report)
        }
    }
}
