//! What the bridge can be told.

use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use crate::broker::{Door, Robots};

/// How the bridge runs.
#[derive(Clone)]
pub struct Settings {
    /// The namespace whose robots these are.
    pub namespace: String,
    /// The broker.
    pub broker: Remote,
    /// What a robot must bring to register; nobody registers without one.
    pub token: Option<String>,
    /// Whether new robots may work at once.
    pub approval: Approval,
    /// How often robots are asked to beat.
    pub beat: Duration,
    /// After how long without a beat a robot counts as gone.
    pub timeout: Duration,
    /// How often that is looked at.
    pub check: Duration,
    /// Whether robots of the published protocol, which have no credential, are listened to.
    pub published: bool,
    /// Where `/metrics`, `/healthz` and logs are served.
    pub serve: Option<Arc<TcpListener>>,
    /// Whether several bridges elect one to work.
    pub leader_election: bool,
    /// Where none is elected: for how long it is good, in the Lease, that this one has said that it
    /// lives; nothing where nobody but this process could notice its end.
    pub lease: Option<Duration>,
    /// The name of this one among them.
    pub identity: String,
    /// The robots' credentials, shared with an embedded broker.
    pub robots: Robots,
    /// How an embedded broker is told to end a robot's connection.
    pub door: Option<Door>,
    /// Where Mosquitto's passwords are kept, for robots that log in with their credential.
    pub mosquitto: Option<PathBuf>,
}

/// A broker, and how to get in.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user name, if it asks for one.
    pub user: Option<String>,
    /// The password.
    pub password: String,
    /// How the connection is encrypted, if it is.
    pub tls: Option<Tls>,
}

/// How a connection is encrypted.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who vouches for the broker; the machine's own list if absent.
    pub authority: Option<PathBuf>,
    /// The certificate and key that the client proves itself with, if it does.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Whether new robots may work at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approval {
    /// They may.
    #[default]
    Auto,
    /// Each waits until somebody sets `spec.approved`.
    Manual,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            broker: Remote {
                host: "localhost".to_owned(),
                port: 1883,
                user: None,
                password: String::new(),
                tls: None,
            },
            token: None,
            approval: Approval::Auto,
            beat: Duration::from_secs(30),
            timeout: Duration::from_secs(300),
            check: Duration::from_secs(30),
            published: true,
            serve: None,
            leader_election: false,
            lease: None,
            identity: "k8s4r-bridge".to_owned(),
            robots: Robots::default(),
            door: None,
            mosquitto: None,
        }
    }
}
