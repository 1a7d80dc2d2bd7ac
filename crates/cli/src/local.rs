//! All of Sandlot in one process on this machine, started and stopped in order.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use kube::Client;
use sandlot_access::PrivateKey;
use sandlot_api::opensandbox::names::EXECUTOR_PORT;
use sandlot_cluster::{
    Cluster, Config, Cue,
    admission::Chain,
    server::{Limits, Listen, Listening},
};
use sandlot_gateway::Serving;
use sandlot_node::{MissingImages, Node, NodeConfig, Runtime, StopMode};
use sandlot_operator::{Agent, Ahead, Delivery, Proof, Settings, Snapshots};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::{self, Fleet},
    gateway,
    rules::Rules,
    snapshots::{self, NodeSaver},
};

/// The image, known to the node without a registry, that holds the agent.
const AGENT_IMAGE: &str = "sandlot-agent";

/// How long the controllers wait before they start over: a disk that is full stays so for a while.
const START_OVER: Duration = Duration::from_secs(1);

/// What is started, and where.
#[derive(Debug)]
pub(crate) struct Options {
    /// Where everything is kept.
    pub(crate) folder: PathBuf,
    /// Keep objects in memory only.
    pub(crate) in_memory: bool,
    /// Where the API listens.
    pub(crate) listen: SocketAddr,
    /// Where the kubeconfig is written.
    pub(crate) kubeconfig: PathBuf,
    /// What to do about images that cannot be had.
    pub(crate) missing_images: MissingImages,
    /// Who starts the containers of pods that do not say.
    pub(crate) runtime: Runtime,
    /// Whether pods may reach beyond the machine.
    pub(crate) egress: bool,
    /// Whether pods may ask for what is no sandbox any more.
    pub(crate) allow_privileged: bool,
    /// Whether the controllers and their admission rules are part of it; without them it is a
    /// cluster on which somebody may run `sandlot operator`.
    pub(crate) controllers: bool,
    /// Where paused sandboxes are saved; on this machine alone where nobody says.
    pub(crate) snapshot_registry: Option<String>,
    /// Whether, and where, sessions are served over REST.
    pub(crate) gateway: Gateway,
    /// What is started for robots, if anything is.
    pub(crate) robots: Option<fleet::Options>,
}

/// Whether, and where, sessions are served over REST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// Nowhere.
    Off,
    /// At the usual address, or beside it when that is taken.
    Usual,
    /// Here.
    At(SocketAddr),
}

/// The running whole.
pub(crate) struct Local {
    cluster: Cluster,
    listening: Listening,
    node: Arc<Node>,
    operator: Option<Operator>,
    gateway: Option<Serving>,
    fleet: Option<Fleet>,
}

impl Local {
    /// Starts the API, then who works on it, then lets clients in.
    pub(crate) async fn start(options: &Options) -> Result<Local> {
        make_private(&options.folder)?;
        let keys = options.folder.join("keys");
        let config = Config {
            database: (!options.in_memory).then(|| options.folder.join("cluster.db")),
            past: Some(options.folder.clone()),
            keys: Some(keys.clone()),
            admission: if options.controllers {
                Chain::new().with(Rules)
            } else {
                Chain::new()
            },
        };
        let cluster = Cluster::start(config).await?;
        let definitions = async {
            match options.controllers {
                true => sandlot_operator::install_crds(cluster.client())
                    .await
                    .context("the custom resources could not be installed"),
                false => Ok(()),
            }
        };
        let (node, ()) = tokio::try_join!(start_node(options, &cluster), definitions)?;
        let operator = match options.controllers {
            true => Some(Operator::start(&cluster, node.clone(), options)?),
            false => None,
        };
        let (gateway, fleet) = tokio::try_join!(
            start_gateway(options, &cluster),
            start_fleet(options, &cluster)
        )?;
        let listen = Listen {
            address: options.listen,
            keys,
            kubeconfig: Some(options.kubeconfig.clone()),
            name: "sandlot".to_owned(),
            limits: Limits::default(),
        };
        let listening = cluster.listen(listen).await?;
        let gateway_port = gateway.as_ref().map(|gateway| gateway.address().port());
        node.speaks_to_itself_at([listening.address.port()].into_iter().chain(gateway_port));
        Ok(Local {
            cluster,
            listening,
            node,
            operator,
            gateway,
            fleet,
        })
    }

    /// Where the API listens, with the port that was picked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// A client in process that may do anything.
    pub(crate) fn client(&self) -> Client {
        self.cluster.client()
    }

    /// Where sessions are served over REST.
    pub(crate) fn gateway(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(Serving::address)
    }

    /// Where the robots' broker listens.
    pub(crate) fn broker(&self) -> Option<SocketAddr> {
        self.fleet.as_ref().map(Fleet::address)
    }

    /// Where robots' metrics and what their tasks print are served.
    pub(crate) fn robot_pages(&self) -> Option<SocketAddr> {
        self.fleet.as_ref().map(Fleet::pages)
    }

    /// The node, for who stops it.
    pub(crate) fn node(&self) -> Arc<Node> {
        self.node.clone()
    }

    /// Lets nobody in any more and stops everything, the API last.
    pub(crate) async fn stop(self) {
        if let Some(fleet) = self.fleet {
            fleet.stop().await;
        }
        if let Some(gateway) = self.gateway {
            gateway.stop().await;
        }
        self.listening.stop().await;
        if let Some(operator) = self.operator {
            operator.stop().await;
        }
        self.node.stop(StopMode::StopPods).await;
        self.cluster.stop().await;
    }
}

/// The gateway, which calls agents with the operator's key.
async fn start_gateway(options: &Options, cluster: &Cluster) -> Result<Option<Serving>> {
    let listen = match options.gateway {
        Gateway::Off => return Ok(None),
        Gateway::Usual => None,
        Gateway::At(address) => Some(address),
    };
    let (client, folder) = (cluster.client(), &options.folder);
    let key = operator_key(folder)?;
    let serving = gateway::beside(client, folder, listen, key, options.missing_images).await?;
    Ok(Some(serving))
}

/// What robots need, if it is wanted.
async fn start_fleet(options: &Options, cluster: &Cluster) -> Result<Option<Fleet>> {
    match &options.robots {
        Some(robots) => Fleet::start(cluster.client(), robots).await.map(Some),
        None => Ok(None),
    }
}

/// The key that agents know the operator by, and the gateway beside it.
fn operator_key(folder: &Path) -> Result<PrivateKey> {
    PrivateKey::kept_at(&folder.join("operator.key"))
        .context("the key that agents know the operator by could not be had")
}

/// The node, with the agent at hand for the pods that ask for it.
async fn start_node(options: &Options, cluster: &Cluster) -> Result<Arc<Node>> {
    // Under its second name it is a task executor.
    let agent = ["sandlot-agent", "task-executor"]
        .map(|name| (name.to_owned(), sandlot_agent_binary::AGENT.to_vec()))
        .into();
    let config = NodeConfig {
        missing_images: options.missing_images,
        runtime: options.runtime.clone(),
        egress: options.egress,
        allow_privileged: options.allow_privileged,
        closed_folders: vec![options.folder.clone()],
        agent_ports: vec![Settings::default().agent.port, EXECUTOR_PORT],
        kept_images: Some(
            options
                .snapshot_registry
                .clone()
                .unwrap_or_else(|| snapshots::HERE.to_owned()),
        ),
        builtin_images: BTreeMap::from([(AGENT_IMAGE.to_owned(), agent)]),
        ..NodeConfig::new(options.folder.join("node"), node_name(), cluster.client())
    };
    let node = Node::start(config)
        .await
        .context("the node did not start")?;
    cluster.set_kubelet(node.clone());
    Ok(node)
}

/// The machine's own name, as a Kubernetes name.
fn node_name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let name: String = host
        .to_string_lossy()
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() {
        "sandlot".to_owned()
    } else {
        name.to_owned()
    }
}

/// The controllers, as a task that we own.
struct Operator {
    cancel: CancellationToken,
    running: JoinHandle<()>,
}

impl Operator {
    fn start(cluster: &Cluster, node: Arc<Node>, options: &Options) -> Result<Operator> {
        let key = operator_key(&options.folder)?;
        let saver = NodeSaver::new(node, options.snapshot_registry.as_deref());
        let settings = Settings {
            snapshots: Snapshots::By(Arc::new(saver)),
            agent: Agent {
                delivery: Delivery::ImageVolume {
                    image: AGENT_IMAGE.to_owned(),
                },
                proof: Proof::Key(key),
                ..Settings::default().agent
            },
            ahead: Some(Ahead {
                client: cluster.client_ahead(),
                on_cue: Arc::new(|marks, given| {
                    marks.insert(Cue::new(given));
                }),
                settled: Arc::new({
                    let cluster = cluster.clone();
                    move || Box::pin(cluster.settled())
                }),
            }),
            ..Settings::default()
        };
        let cancel = CancellationToken::new();
        let running = tokio::spawn(Operator::run(cluster.clone(), settings, cancel.clone()));
        Ok(Operator { cancel, running })
    }

    /// Works until it is cancelled. Claims are decided ahead of the disk: when something that was
    /// accepted could not be stored after all, the controllers forget what they knew and start over.
    async fn run(cluster: Cluster, settings: Settings, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let turned_back = cluster.turned_back();
            let stop = cancel.child_token();
            let work = sandlot_operator::run(cluster.client(), settings.clone(), stop.clone());
            let mut work = std::pin::pin!(work);
            let ended = tokio::select! {
                ended = &mut work => ended,
                () = turned_back => {
                    tracing::warn!("what the controllers have seen could not be stored: they start over");
                    stop.cancel();
                    let ended = work.await;
                    let _ = tokio::time::timeout(START_OVER, cancel.cancelled()).await;
                    if ended.is_ok() {
                        continue;
                    }
                    ended
                }
            };
            if let Err(error) = ended {
                tracing::error!(%error, "the controllers ended");
            }
            return;
        }
    }

    async fn stop(self) {
        self.cancel.cancel();
        // It is ours alone, so it can only have ended or panicked; either way it is over.
        let _ = self.running.await;
    }
}

/// A folder that only its owner may look into.
fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))
}
