//! What `sandlot robot` can be told.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// Options of `robot`.
#[derive(Debug, Args)]
pub(crate) struct Robot {
    /// The broker: tcp://HOST:PORT, or mqtts://HOST:PORT for TLS.
    #[arg(
        long,
        value_name = "URL",
        default_value = "tcp://localhost:1883",
        env = "K8S4R_BROKER_URL"
    )]
    pub(crate) broker_url: String,
    /// The token that new robots register with; afterwards the robot has a secret of its own.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "K8S4R_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// The robot's id, which is its name in the cluster too.
    #[arg(long, value_name = "ID", env = "K8S4R_ROBOT_ID")]
    pub(crate) robot_id: String,
    /// How often it says that it lives, unless the cluster wants another pace.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) heartbeat_interval: u64,
    /// Where its tasks and what it knows are kept [default: robots/ID in the data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// A label that it wants when it registers for the first time; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,
    /// Let commands run programs on it.
    #[arg(long)]
    pub(crate) allow_commands: bool,
    /// The authorities to trust, as PEM [default: the machine's]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Where /metrics is served [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// The robot's certificate, as PEM; read again at every connect.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
}

/// Reads a pair like `site=hall-3`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write a key and a value, as in site=hall-3")?;
    Ok((key.to_owned(), value.to_owned()))
}
