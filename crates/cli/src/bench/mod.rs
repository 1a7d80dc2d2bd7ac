//! `sandlot bench`: the promises, measured from outside on a `sandlot up` of this very binary.

mod api;
mod batch;
mod claim;
mod crowd;
mod exec;
mod floor;
mod node;
mod operator_alone;
mod report;
mod robots;
mod session;
mod sight;
mod stand_in;
mod subject;
mod task;
mod wire;
mod writes;

use anyhow::Result;

use crate::args::{Bench, Subject};

/// Measures one subject, and the machine in the same run, and prints the report.
pub(crate) async fn run(options: &Bench) -> Result<()> {
    let begun = floor::Clock::now();
    let mut report = match options.what {
        Subject::Api => api::measure().await?,
        Subject::Node => node::measure().await?,
        Subject::Claim => claim::measure().await?,
        Subject::Batch => batch::measure().await?,
        Subject::Task => task::measure().await?,
        Subject::Exec => exec::measure().await?,
        Subject::Session => session::measure().await?,
        Subject::Robots => robots::measure(options.robots).await?,
    };
    tokio::task::block_in_place(|| floor::measure(&mut report, begun))?;
    report.print(options.json)?;
    Ok(())
}
