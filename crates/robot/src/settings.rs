//! What a robot's agent is told when it starts.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// What a robot's agent is told when it starts.
#[derive(Clone)]
pub struct Settings {
    /// The robot: one level of a topic, and an object's name.
    pub robot: String,
    /// The broker.
    pub broker: Address,
    /// What the robot registers with, until it has its own credential.
    pub token: Option<String>,
    /// How often it says that it lives, unless the cluster wants another pace.
    pub beat: Duration,
    /// Where everything is kept.
    pub folder: PathBuf,
    /// Labels that it wants when it registers for the first time.
    pub labels: BTreeMap<String, String>,
    /// Whether commands may run programs.
    pub commands: bool,
    /// What runs containers, by name or path; podman or docker if nothing is said.
    pub engine: Option<PathBuf>,
    /// How connections are protected.
    pub tls: Tls,
    /// Where what it counts is served, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// How connections are protected. The files are read at every connect, so that renewed ones count.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Authorities to trust, instead of the machine's.
    pub authorities: Option<PathBuf>,
    /// The robot's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
}

/// What is no broker's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no broker's address: write tcp://HOST:PORT, or mqtts://HOST:PORT for TLS")]
pub struct WrongAddress(String);

impl FromStr for Address {
    type Err = WrongAddress;

    fn from_str(text: &str) -> Result<Self, WrongAddress> {
        let wrong = || WrongAddress(text.to_owned());
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme {
            "tcp" | "mqtt" => false,
            "ssl" | "tls" | "mqtts" => true,
            _ => return Err(wrong()),
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (rest, if tls { 8883 } else { 1883 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            tls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_agents_write_them() {
        for (text, host, port, tls) in [
            ("tcp://localhost:1883", "localhost", 1883, false),
            ("broker", "broker", 1883, false),
            ("mqtts://broker.example", "broker.example", 8883, true),
            ("ssl://10.0.0.1:9000/", "10.0.0.1", 9000, true),
            ("tcp://[::1]:1884", "::1", 1884, false),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.host.as_str(), address.port, address.tls),
                (host, port, tls)
            );
        }
        for text in [
            "http://broker",
            "tcp://",
            "tcp://a:b",
            "tcp://broker:x",
            "tcp://a/b:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
