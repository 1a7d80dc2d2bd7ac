//! What `sandlot up` can be told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::RobotRules;

/// Options of `up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept [default: ~/.local/share/sandlot]
    #[arg(long, value_name = "DIR", env = "SANDLOT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the API listens; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    pub(crate) listen: SocketAddr,
    /// Where to write the kubeconfig [default: kubeconfig in the data folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Keep nothing: objects in memory, files in a temporary folder.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// What to do about an image that cannot be had.
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub(crate) missing_images: MissingImages,
    /// Who starts the containers of pods without a runtimeClassName: sandlot, an OCI runtime
    /// (runc, crun, runsc, kata-runtime), or the path of one.
    #[arg(long, value_name = "NAME", default_value = "sandlot")]
    pub(crate) runtime: String,
    /// Close every way from the pods to other machines.
    #[arg(long)]
    pub(crate) no_egress: bool,
    /// Let pods be privileged, have this machine's network, and see Sandlot's own folder.
    #[arg(long)]
    pub(crate) allow_privileged: bool,
    /// Put paused sandboxes and snapshots into this registry, too [default: this machine alone]
    #[arg(long, value_name = "HOST[/PATH]", env = "SANDLOT_SNAPSHOT_REGISTRY", value_parser = registry)]
    pub(crate) snapshot_registry: Option<String>,
    /// Where the robots' broker listens [default: 127.0.0.1:1883, or another port if that is taken]
    #[arg(long, value_name = "ADDR")]
    pub(crate) mqtt_listen: Option<SocketAddr>,
    /// Where robots' metrics and what their tasks print are served [default: 127.0.0.1:8084, or
    /// another port if that is taken]
    #[arg(long, value_name = "ADDR")]
    pub(crate) robot_pages: Option<SocketAddr>,
    /// The token that robots register with.
    #[arg(long, value_name = "TOKEN", default_value = crate::fleet::TOKEN, env = "K8S4R_TOKEN")]
    pub(crate) robot_token: String,
    #[command(flatten)]
    pub(crate) robot_rules: RobotRules,
    /// Start so many simulated robots.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) robots: u16,
    /// Leave the controllers out: a plain cluster, for `sandlot operator` to work on.
    #[arg(long)]
    pub(crate) no_controllers: bool,
    /// Where sessions are served over REST; port 0 picks a free one [default: 127.0.0.1:8000, or a free port]
    #[arg(long, value_name = "ADDR", conflicts_with = "no_controllers")]
    pub(crate) gateway: Option<SocketAddr>,
    /// Serve no sessions over REST.
    #[arg(long, conflicts_with = "gateway")]
    pub(crate) no_gateway: bool,
}

/// A registry's name, which must be told from a repository of the usual one.
fn registry(text: &str) -> Result<String, String> {
    let host = text.split('/').next().unwrap_or_default();
    let is_host = host == "localhost" || host.contains(['.', ':']);
    match is_host && !text.contains("//") {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("write a host, such as registry.example:5000/snapshots".to_owned()),
    }
}

/// What to do about an image that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MissingImages {
    /// The pod waits with ImagePullBackOff, as on any cluster.
    Fail,
    /// The container runs on this machine's own /usr, with a Warning event that says so.
    Host,
}
