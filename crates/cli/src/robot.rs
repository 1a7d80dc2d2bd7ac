//! `sandlot robot`: the agent on a robot, until told to stop or to start anew.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use sandlot_api::robot::is_robot_id;
use sandlot_robot::{Settings, Tls};
use tokio_util::sync::CancellationToken;

use crate::{args::Robot, folders, interrupts::Interrupts};

/// Works until a signal comes. What runs on the robot goes on without us.
pub(crate) async fn run(options: &Robot) -> Result<()> {
    let mut interrupts = Interrupts::listen()?;
    let settings = settings(options)?;
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

fn settings(options: &Robot) -> Result<Settings> {
    let robot = options.robot_id.clone();
    if !is_robot_id(&robot) {
        bail!(
            "{robot:?} cannot be a robot's id: use small letters, digits and '-', at most 63, as in arm-1"
        );
    }
    let identity = options.certificate.clone().zip(options.key.clone());
    Ok(Settings {
        broker: options.broker_url.parse()?,
        token: options.token.clone().filter(|token| !token.is_empty()),
        beat: Duration::from_secs(options.heartbeat_interval),
        folder: match &options.work_dir {
            Some(folder) => folder.clone(),
            None => own_folder(&robot)?,
        },
        labels: options.label.iter().cloned().collect::<BTreeMap<_, _>>(),
        commands: options.allow_commands,
        tls: Tls {
            authorities: options.ca.clone(),
            identity,
        },
        metrics: options.metrics,
        robot,
    })
}

fn own_folder(robot: &str) -> Result<PathBuf> {
    let data = folders::data().context("name one with --work-dir")?;
    Ok(data.join("robots").join(robot))
}
