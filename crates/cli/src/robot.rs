//! `sandlot robot`: the agent on a robot, until told to stop or to start anew.

use anyhow::Result;
use sandlot_robot::Options;
use tokio_util::sync::CancellationToken;

use crate::{folders, interrupts::Interrupts};

/// Works until a signal comes. What runs on the robot goes on without us.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut interrupts = Interrupts::listen()?;
    let settings = options.settings(folders::data().ok())?;
    let stop = CancellationToken::new();
    let mut working = std::pin::pin!(sandlot_robot::run(settings, stop.clone()));
    tokio::select! {
        ended = &mut working => return Ok(ended?),
        _ = interrupts.first() => tracing::info!("stopping; what runs goes on without the agent"),
    }
    stop.cancel();
    tokio::select! {
        ended = &mut working => Ok(ended?),
        _ = interrupts.first() => Ok(()),
    }
}
