//! What whoever starts a node decides about it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::images::MissingImages;
use crate::network::PacketRules;
use crate::runtime::Runtime;

/// How a node is started.
#[derive(Clone)]
pub struct NodeConfig {
    /// Where images, sandboxes, volumes and logs are kept. Nothing else may write there.
    pub data_dir: PathBuf,
    /// The node's name in the cluster.
    pub node_name: String,
    /// How it talks to the API.
    pub client: kube::Client,
    /// Who starts the containers of pods that do not say.
    pub runtime: Runtime,
    /// What to do about images that cannot be had.
    pub missing_images: MissingImages,
    /// Whether pods may reach beyond the machine.
    pub egress: bool,
    /// Whether pods may ask to be privileged, for the machine's network, and for whatever
    /// else is no sandbox any more.
    pub allow_privileged: bool,
    /// Which of the kernel's rules for packets to use.
    pub packet_rules: PacketRules,
    /// Folders besides the node's own that no pod may see, unless it may be privileged.
    pub closed_folders: Vec<PathBuf>,
    /// No token of a pod is used for longer, however long it is good for.
    pub longest_token_use: Duration,
    /// Ports of every pod that this machine reaches where it has no way into the pods'
    /// network, that is without root; the ports that containers name are reached besides.
    pub agent_ports: Vec<u16>,
    /// Images that come with the program: name → path in the image → content. Executable
    /// if they begin like a program (`#!` or ELF).
    pub builtin_images: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// What the names of images begin with that somebody else keeps track of, as of paused
    /// sandboxes: they are not pruned, and none of them that is missing is replaced.
    pub kept_images: Option<String>,
    /// The folder of docker's `config.json`, whose logins registries are shown.
    pub docker_config: Option<PathBuf>,
    /// Sandboxes to keep ready, so that pods start at once.
    pub sandboxes_ready: usize,
    /// Variables in every container that name the cluster's services.
    pub service_env: Vec<(String, String)>,
    /// The program that becomes the zygote when it is started under that name (see
    /// [`crate::enter_if_called`]); `None` for the running one.
    pub zygote: Option<PathBuf>,
}

impl NodeConfig {
    /// A node with the usual settings.
    pub fn new(
        data_dir: PathBuf,
        node_name: impl Into<String>,
        client: kube::Client,
    ) -> NodeConfig {
        NodeConfig {
            data_dir,
            node_name: node_name.into(),
            client,
            runtime: Runtime::Own,
            missing_images: MissingImages::Fail,
            egress: true,
            allow_privileged: false,
            packet_rules: PacketRules::All,
            closed_folders: Vec::new(),
            longest_token_use: Duration::from_secs(24 * 3600),
            agent_ports: Vec::new(),
            builtin_images: BTreeMap::new(),
            kept_images: None,
            docker_config: crate::images::usual_docker_folder(),
            sandboxes_ready: 4,
            service_env: Vec::new(),
            zygote: None,
        }
    }
}
