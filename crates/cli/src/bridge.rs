//! `sandlot bridge`: robots on one side, a cluster on the other, until told to stop.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use sandlot_bridge::{
    Approval, Remote, Settings, Tls,
    broker::{
        BRIDGE,
        mosquitto::{Mosquitto, MosquittoTls},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{args::Bridge, interrupts::Interrupts, target};

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
    let (host, port, encrypted) = broker(&options.broker_url)?;
    let identity = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        _ => None,
    };
    let tls = encrypted.then(|| Tls {
        authority: options.ca.clone(),
        identity,
    });
    Ok(Settings {
        namespace,
        broker: Remote {
            host,
            port,
            // Under the configuration that we write, that is our name.
            user: options
                .user
                .clone()
                .or(options.mosquitto.is_some().then(|| BRIDGE.to_owned())),
            password: options.password.clone().unwrap_or_default(),
            tls,
        },
        token: options.token.clone(),
        approval: match options.manual_approval {
            true => Approval::Manual,
            false => Approval::Auto,
        },
        beat: Duration::from_secs(options.heartbeat_interval),
        timeout: Duration::from_secs(options.heartbeat_timeout),
        check: Duration::from_secs(options.heartbeat_check.max(1)),
        published: !options.own_credentials_only,
        serve: Some(options.listen),
        leader_election: options.leader_elect,
        identity: identity_name(),
        mosquitto: options.mosquitto.clone(),
        ..Settings::default()
    })
}

/// Writes the configuration of the Mosquitto that we log in to.
fn configure(options: &Bridge, folder: &Path) -> Result<()> {
    let (host, port, _) = broker(&options.broker_url)?;
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
        port,
        bridge: password
            .context("choose the bridge's password with --password or K8S4R_BROKER_PASSWORD")?,
        bootstrap: options.token.clone(),
        anonymous: !options.own_credentials_only,
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

/// A broker's address: `tcp://host:1883`, `mqtts://host:8883`, or a host and a port.
fn broker(url: &str) -> Result<(String, u16, bool)> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("tcp", url));
    let encrypted = match scheme {
        "tcp" | "mqtt" => false,
        "ssl" | "tls" | "mqtts" => true,
        other => bail!(
            "{other:?} is no way to reach a broker: write tcp://host:1883 or mqtts://host:8883"
        ),
    };
    let rest = rest.trim_end_matches('/');
    let usual = if encrypted { 8883 } else { 1883 };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port
                .parse()
                .with_context(|| format!("{port:?} is no port"))?;
            (host, port)
        }
        _ => (rest, usual),
    };
    if host.is_empty() {
        bail!("{url:?} names no broker: write tcp://host:1883 or mqtts://host:8883");
    }
    Ok((host.trim_matches(['[', ']']).to_owned(), port, encrypted))
}

/// A name that no other bridge has: the pod's, or the machine's and the process's.
fn identity_name() -> String {
    std::env::var("POD_NAME").unwrap_or_else(|_| {
        let host = nix::unistd::gethostname().unwrap_or_default();
        format!("{}-{}", host.to_string_lossy(), std::process::id())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_named_as_other_clients_name_them() {
        for (url, host, port, encrypted) in [
            ("tcp://localhost:1883", "localhost", 1883, false),
            ("mqtts://broker.site", "broker.site", 8883, true),
            ("ssl://[::1]:9", "::1", 9, true),
            ("broker:1884", "broker", 1884, false),
        ] {
            let read = broker(url).unwrap();
            assert_eq!(read, (host.to_owned(), port, encrypted), "{url}");
        }
        for url in ["http://broker", "tcp://", "tcp://broker:x"] {
            assert!(broker(url).is_err(), "{url}");
        }
    }
}
