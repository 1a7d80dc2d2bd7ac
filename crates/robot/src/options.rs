//! What a robot's agent can be told on its command line, in `sandlot robot` and by itself.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use sandlot_api::robot::is_robot_id;

use crate::settings::{Address, Settings, Tls, WrongAddress};

/// How a broker is reached, and what new robots register with: the same for both ends.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The broker: tcp://HOST:PORT, or mqtts://HOST:PORT for TLS.
    #[arg(
        long,
        value_name = "URL",
        default_value = "tcp://localhost:1883",
        env = "K8S4R_BROKER_URL"
    )]
    pub broker_url: String,
    /// The token that new robots register with; afterwards each has a secret of its own. Without
    /// one, none can register.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "K8S4R_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// The authorities to trust, as PEM [default: the machine's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The certificate to prove ourselves with, as PEM; read again at every connect.
    #[arg(long, value_name = "FILE", requires = "key", alias = "cert")]
    pub certificate: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

impl Connection {
    /// The broker's address.
    pub fn broker(&self) -> Result<Address, WrongAddress> {
        self.broker_url.parse()
    }

    /// The token; an empty one is none.
    pub fn token(&self) -> Option<String> {
        self.token.clone().filter(|token| !token.is_empty())
    }

    /// How the connection is protected.
    pub fn tls(&self) -> Tls {
        Tls {
            authorities: self.ca.clone(),
            identity: self.certificate.clone().zip(self.key.clone()),
        }
    }
}

/// Options of a robot's agent.
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
    /// The robot's id, which is its name in the cluster too.
    #[arg(long, value_name = "ID", env = "K8S4R_ROBOT_ID")]
    pub robot_id: String,
    /// How often it says that it lives, unless the cluster wants another pace.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub heartbeat_interval: u64,
    /// Where its tasks and what it knows are kept [default: robots/ID in the data folder]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// A label that it wants when it registers for the first time; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// Let commands run programs on it.
    #[arg(long)]
    pub allow_commands: bool,
    /// What runs containers: docker, podman, or the path of one [default: podman, or else docker]
    #[arg(long, value_name = "PROGRAM", env = "K8S4R_CONTAINER_ENGINE")]
    pub container_engine: Option<PathBuf>,
    /// Where /metrics is served [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
}

/// What is wrong with options.
#[derive(Debug, thiserror::Error)]
pub enum WrongOption {
    /// The id cannot be a robot's.
    #[error(
        "{0:?} cannot be a robot's id: use small letters, digits and '-', at most 63, as in arm-1, and no name that the broker knows already"
    )]
    RobotId(String),
    /// The broker's address.
    #[error(transparent)]
    Broker(#[from] WrongAddress),
    /// There is no folder to keep anything in.
    #[error("there is no home folder to keep data in; name a folder with --work-dir")]
    NoFolder,
}

impl Options {
    /// What the agent starts with. `data` is where folders of robots are that name none.
    pub fn settings(&self, data: Option<PathBuf>) -> Result<Settings, WrongOption> {
        let robot = self.robot_id.clone();
        if !is_robot_id(&robot) {
            return Err(WrongOption::RobotId(robot));
        }
        let own = || data.map(|data| data.join("robots").join(&robot));
        Ok(Settings {
            broker: self.connection.broker()?,
            token: self.connection.token(),
            beat: Duration::from_secs(self.heartbeat_interval),
            folder: self
                .work_dir
                .clone()
                .or_else(own)
                .ok_or(WrongOption::NoFolder)?,
            labels: self.label.iter().cloned().collect(),
            commands: self.allow_commands,
            engine: self.container_engine.clone(),
            tls: self.connection.tls(),
            metrics: self.metrics,
            robot,
        })
    }
}

/// Reads a pair like `site=hall-3`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write a key and a value, as in site=hall-3")?;
    Ok((key.to_owned(), value.to_owned()))
}
