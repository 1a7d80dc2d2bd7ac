//! `sandlot operator`: the controllers on a cluster, until told to stop.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;
use sandlot_operator::Settings;
use tokio_util::sync::CancellationToken;

use crate::{args::Operator, interrupts::Interrupts, memory, target};

/// What the cluster must serve.
const SERVED: [&str; 2] = ["arl.infra.io/v1alpha1", "sandbox.opensandbox.io/v1alpha1"];
/// How long the definitions may take to appear: they are often applied together with us.
const PATIENCE: Duration = Duration::from_secs(30);

/// Works until a signal comes, then leaves in order.
pub(crate) async fn run(options: &Operator) -> Result<()> {
    memory::hold_on_to_nothing();
    let mut interrupts = Interrupts::listen()?;
    let settings = Settings::from_variables(|name| variable(options, name))?;
    let (client, _) = target::connect(&options.target).await?;
    if options.install_crds {
        sandlot_operator::install_crds(client.clone()).await?;
    }
    tokio::select! {
        known = definitions(&client) => known?,
        _ = interrupts.first() => return Ok(()),
    }
    memory::forget_program();
    let cancel = CancellationToken::new();
    let mut working = std::pin::pin!(sandlot_operator::run(client, settings, cancel.clone()));
    tokio::select! {
        ended = &mut working => return ended.context("the operator ended"),
        _ = interrupts.first() => tracing::info!("stopping; running steps go on without us"),
    }
    cancel.cancel();
    tokio::select! {
        ended = &mut working => ended.context("the operator ended"),
        _ = interrupts.first() => Ok(()),
    }
}

/// The environment, as far as the command line does not say otherwise.
fn variable(options: &Operator, name: &str) -> Option<String> {
    match name {
        "ENABLE_LEADER_ELECTION" if options.leader_elect => Some("true".to_owned()),
        "ENABLE_WEBHOOKS" if options.webhooks => Some("true".to_owned()),
        // Two operators of one name would both think that they lead.
        "POD_NAME" => std::env::var(name).ok().or_else(own_name),
        _ => std::env::var(name).ok(),
    }
}

/// A name that no other operator has: the machine's and the process's.
fn own_name() -> Option<String> {
    let host = nix::unistd::gethostname().ok()?;
    Some(format!("{}-{}", host.to_string_lossy(), std::process::id()))
}

/// Waits until the cluster serves our kinds.
async fn definitions(client: &Client) -> Result<()> {
    let started = tokio::time::Instant::now();
    let mut missing = SERVED.into_iter().peekable();
    while let Some(group) = missing.peek() {
        let asked = client.list_api_group_resources(group).await;
        let why = match asked {
            Ok(served) if !served.resources.is_empty() => {
                missing.next();
                continue;
            }
            Ok(_) => "it serves none of their kinds".to_owned(),
            Err(kube::Error::Api(status)) if status.code == 404 => "it does not".to_owned(),
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= PATIENCE {
            bail!(
                "the cluster should serve {group}: {why}; apply deploy/crds, or start with --install-crds"
            );
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
