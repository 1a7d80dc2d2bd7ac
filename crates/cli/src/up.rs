//! `sandlot up`: everything on this machine, until Ctrl-C.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};

use sandlot_node::{MissingImages, Runtime};

use crate::{
    args::{self, Up},
    fleet,
    folders::{self, Temporary},
    interrupts::Interrupts,
    local::{Gateway, Local, Options},
    memory,
};

/// Starts, says what runs where, waits, and stops in order.
pub(crate) async fn run(up: &Up) -> Result<()> {
    let started = Instant::now();
    let temporary = up.ephemeral.then(Temporary::make).transpose()?;
    let folder = match (&up.data_dir, &temporary) {
        (Some(named), _) => absolute(named)?,
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => folders::data()?,
    };
    let kubeconfig = match &up.kubeconfig {
        Some(named) => absolute(named)?,
        None => folder.join("kubeconfig"),
    };
    let options = Options {
        folder,
        in_memory: up.ephemeral,
        listen: up.listen,
        kubeconfig,
        missing_images: match up.missing_images {
            args::MissingImages::Fail => MissingImages::Fail,
            args::MissingImages::Host => MissingImages::Host,
        },
        runtime: Runtime::named(&up.runtime)?,
        egress: !up.no_egress,
        allow_privileged: up.allow_privileged,
        controllers: !up.no_controllers,
        gateway: match up.gateway {
            _ if up.no_gateway || up.no_controllers => Gateway::Off,
            Some(address) => Gateway::At(address),
            None => Gateway::Usual,
        },
        snapshot_registry: up.snapshot_registry.clone(),
        robots: (!up.no_controllers).then(|| fleet::Options {
            listen: up.mqtt_listen,
            pages: up.robot_pages,
            token: up.robot_token.clone(),
            rules: up.robot_rules.clone(),
            simulated: up.robots,
        }),
    };
    let mut interrupts = Interrupts::listen()?;
    let local = Local::start(&options).await?;
    memory::forget_program();
    introduce(&local, &options, started);
    interrupts.first().await;
    println!("stopping, pods have their grace; Ctrl-C again to stop at once");
    let node = local.node();
    let mut stopping = std::pin::pin!(local.stop());
    tokio::select! {
        () = &mut stopping => {
            println!("stopped");
            return Ok(());
        }
        _ = interrupts.first() => {}
    }
    // A node that is in the middle of something may take a moment to listen, too.
    let mut hurried = std::pin::pin!(async { tokio::join!(node.hurry(), &mut stopping) });
    tokio::select! {
        _ = &mut hurried => println!("stopped at once"),
        _ = interrupts.first() => println!("left as it is; the next start cleans up"),
    }
    Ok(())
}

fn introduce(local: &Local, options: &Options, started: Instant) {
    println!(
        "Sandlot is up after {:.0} ms.",
        started.elapsed().as_secs_f64() * 1e3
    );
    println!();
    println!("  API         https://{}", local.address());
    if let Some(address) = local.gateway() {
        println!("  sessions    http://{address}/docs");
    }
    if let Some(address) = local.broker() {
        println!("  robots      mqtt://{address}");
    }
    if let Some(address) = local.robot_pages() {
        println!("  their logs  http://{address}/logs/TASK");
    }
    println!("  kubeconfig  {}", options.kubeconfig.display());
    match options.in_memory {
        true => println!("  data        in memory; nothing is kept"),
        false => println!("  data        {}", options.folder.display()),
    }
    println!();
    println!("  export KUBECONFIG={}", options.kubeconfig.display());
    println!("  kubectl get nodes");
    println!();
    println!("Ctrl-C stops it.");
}

fn absolute(path: &PathBuf) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no usable path", path.display()))
}
