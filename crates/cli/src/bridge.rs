//! `sandlot bridge`: robots on one side, a cluster on the other, until told to stop.

use std::{net::TcpListener, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use sandlot_bridge::{
    Approval, Remote, Settings, Tls,
    broker::{
        BRIDGE,
        mosquitto::{Mosquitto, MosquittoTls},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Bridge, RobotRules},
    interrupts::Interrupts,
    target,
};

/// After twice as long without a word the robots of a bridge that is not elected are Unknown.
const LEASE: Duration = Duration::from_secs(15);

/// Works until a signal comes, then leaves in order.
pub(crate) async fn run(options: &Bridge) -> Result<()> {
    if let Some(folder) = &options.mosquitto {
        configure(options, folder)?;
        if options.configure_only {
            println!("mosquitto -c {}", folder.join("mosquitto.conf").display());
            return Ok(());
        }
    }
    let mut interrupts = Interrupts::listen()?;
    let (client, namespace) = target::connect(&options.target).await?;
    let settings = settings(options, namespace)?;
    let cancel = CancellationToken::new();
    let mut working = std::pin::pin!(sandlot_bridge::run(client, settings, cancel.clone()));
    tokio::select! {
        ended = &mut working => return ended.context("the bridge ended"),
        _ = interrupts.first() => tracing::info!("stopping; robots go on without us"),
    }
    cancel.cancel();
    tokio::select! {
        ended = &mut working => ended.context("the bridge ended"),
        _ = interrupts.first() => Ok(()),
    }
}

fn settings(options: &Bridge, namespace: String) -> Result<Settings> {
    let connection = &options.connection;
    let broker = connection.broker()?;
    let protection = connection.tls();
    let tls = broker.tls.then_some(Tls {
        authority: protection.authorities,
        identity: protection.identity,
    });
    let listener = TcpListener::bind(options.listen)
        .with_context(|| format!("metrics and logs cannot be served on {}", options.listen))?;
    Ok(Settings {
        namespace,
        broker: Remote {
            host: broker.host,
            port: broker.port,
            // Under the configuration that we write, that is our name.
            user: options
                .user
                .clone()
                .or(options.mosquitto.is_some().then(|| BRIDGE.to_owned())),
            password: options.password.clone().unwrap_or_default(),
            tls,
        },
        token: connection.token(),
        serve: Some(Arc::new(listener)),
        leader_election: options.leader_elect,
        lease: Some(LEASE),
        identity: identity_name(),
        mosquitto: options.mosquitto.clone(),
        ..under(&options.rules)
    })
}

/// What a bridge is told by such rules, and nothing else.
pub(crate) fn under(rules: &RobotRules) -> Settings {
    Settings {
        approval: match rules.manual_approval {
            true => Approval::Manual,
            false => Approval::Auto,
        },
        beat: Duration::from_secs(rules.heartbeat_interval),
        timeout: Duration::from_secs(rules.heartbeat_timeout),
        check: Duration::from_secs(rules.heartbeat_check),
        published: !rules.own_credentials_only,
        ..Settings::default()
    }
}

/// Writes the configuration of the Mosquitto that we log in to.
fn configure(options: &Bridge, folder: &Path) -> Result<()> {
    let broker = options.connection.broker()?;
    let host = &broker.host;
    let password = options.password.clone();
    let tls = match options.broker_identity.as_deref() {
        Some([certificate, key]) => Some(MosquittoTls {
            certificate: certificate.clone(),
            key: key.clone(),
            clients: options.robots_ca.clone(),
        }),
        _ => None,
    };
    let mosquitto = Mosquitto {
        folder: std::path::absolute(folder)?,
        // A name is for clients; the broker listens on all addresses then.
        address: match host.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) if host == "localhost" => "127.0.0.1".to_owned(),
            Err(_) => "0.0.0.0".to_owned(),
        },
        port: broker.port,
        bridge: password
            .context("choose the bridge's password with --password or K8S4R_BROKER_PASSWORD")?,
        bootstrap: options.connection.token(),
        anonymous: !options.rules.own_credentials_only,
        tls,
    };
    let failed = || {
        format!(
            "Mosquitto's configuration cannot be written to {}",
            folder.display()
        )
    };
    mosquitto.write().with_context(failed)
}

/// A name that no other bridge has: the pod's, or the machine's and the process's.
fn identity_name() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| {
        let host = nix::unistd::gethostname().unwrap_or_default();
        format!("{}-{}", host.to_string_lossy(), std::process::id())
    })
}
