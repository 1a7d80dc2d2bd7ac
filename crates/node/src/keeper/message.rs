//! What the node asks of a pod's keeper, and what it answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Limits;

/// Asked of the zygote: the one process that is started from the binary, of which
/// every keeper is a fork.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToZygote {
    /// Fork a keeper for a sandbox.
    Keep(Birth),
    /// Fork a process that stays in the network the pods live in while this file is there.
    Hold(PathBuf),
    /// Let the network the pods live in pass packets on between them.
    PassOn,
    /// Make a socket in the network the pods live in, which need not be the machine's.
    Socket {
        /// `AF_INET`, `AF_NETLINK` …
        family: i32,
        /// `SOCK_STREAM` …
        kind: i32,
        /// The protocol, 0 for the family's usual one.
        protocol: i32,
    },
}

/// Which network the zygote makes keepers from, as its argument says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// The machine's.
    Machine,
    /// A new one, apart from the machine's.
    Apart,
    /// The one apart from the machine's that this process holds.
    HeldBy(i32),
}

impl Ground {
    /// As an argument.
    pub(crate) fn word(self) -> String {
        match self {
            Ground::Machine => "machine".to_owned(),
            Ground::Apart => "apart".to_owned(),
            Ground::HeldBy(pid) => pid.to_string(),
        }
    }

    /// From an argument; what makes no sense is the one that shows least.
    pub(crate) fn parse(word: &str) -> Ground {
        match (word, word.parse()) {
            ("machine", _) => Ground::Machine,
            (_, Ok(pid)) => Ground::HeldBy(pid),
            _ => Ground::Apart,
        }
    }
}

/// Answered by the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromZygote {
    /// The keeper was forked.
    Kept { pid: i32 },
    /// The socket rides along.
    Socket,
    /// Done, nothing more to say.
    Done,
    /// Why it could not be done.
    Failed(String),
}

/// What a keeper is born with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Birth {
    /// The sandbox's folder; the socket `keeper.sock` appears in it.
    pub dir: PathBuf,
    /// How the pod's users are mapped to the machine's; `None` keeps the machine's own.
    pub users: Option<IdRange>,
    /// Use the machine's network instead of one of its own.
    pub host_network: bool,
}

/// The pod's user 0 is the machine's `first`, and so on for `count` users and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    pub first: u32,
    pub count: u32,
}

/// What a keeper can be asked. One connection carries one question, except that
/// `Watch`, `Exec` and `Attach` go on answering until they end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Make the sandbox a pod's: its name, address and shared mounts.
    Prepare(Preparation),
    /// Start a container. Files: its plan.
    Start { container: String },
    /// Run a command in a container. Files: its plan, then stdin, stdout, stderr as `given` says.
    Exec { container: String, given: Given },
    /// Join a container's streams. Files: stdin, stdout, stderr as `given` says.
    Attach { container: String, given: Given },
    /// Send a signal to a container's first process.
    Signal { container: String, signal: i32 },
    /// The terminal of a container has a new size.
    Resize {
        container: String,
        width: u16,
        height: u16,
    },
    /// Forget a container that has ended.
    Forget { container: String },
    /// Tell every container's state, and every change of it.
    Watch,
    /// Kill everything and leave.
    Leave,
}

/// Which of the standard streams ride along with a question.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Given {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// What makes a sandbox a pod's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Preparation {
    pub hostname: String,
    pub domain: String,
    /// The address of `eth0`, when the sandbox has one.
    pub address: Option<Address>,
    /// Written below `/proc/sys` inside the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Memory-backed folders that the containers share.
    pub memory: Vec<MemoryFolder>,
    /// One process namespace for all containers.
    pub share_processes: bool,
}

/// The pod's address on its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub ip: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Ipv4Addr,
    /// The address by which the machine and other pods know it, when that is another one.
    pub shown: Option<Ipv4Addr>,
}

/// A tmpfs the containers share, mounted in the keeper and gone with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemoryFolder {
    pub at: PathBuf,
    pub bytes: Option<u64>,
    pub mode: u32,
}

/// What a keeper answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Tell {
    /// Done, nothing more to say.
    Done,
    /// The process runs; with a terminal, its master side rides along.
    Started { pid: i32, since: jiff::Timestamp },
    /// The process could not be started.
    Failed(Failure),
    /// The process of this exec or attach has ended.
    Ended(Ended),
    /// A container's state; sent to watchers.
    State {
        container: String,
        state: ContainerState,
    },
    /// All states known so far have been sent to this watcher.
    Current,
}

/// Where a container is in its life, as its keeper sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContainerState {
    /// It runs.
    Running { pid: i32, since: jiff::Timestamp },
    /// It ended.
    Ended(Ended),
}

/// How a process ended; also kept as a file, so that it outlives the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// 128 + n for a death by signal n.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    pub started: jiff::Timestamp,
    pub finished: jiff::Timestamp,
}

/// Which step of a start failed; Kubernetes has a reason for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// What was asked makes no sense in this image: `CreateContainerConfigError`.
    Config,
    /// The container could not be built: `CreateContainerError`.
    Create,
    /// Its command could not be run: `StartError`.
    Start,
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub stage: Stage,
    pub message: String,
    /// The exit code a shell would give: 126 or 127 for commands that cannot be run.
    pub code: i32,
}

/// How to run one process: a container's first, or a command in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    /// Folders of the image that hold data, made where it has none.
    #[serde(default)]
    pub folders: Vec<String>,
    /// What the container sees; a command in a container sees the container's.
    pub view: Option<View>,
    pub identity: Identity,
    /// The `cgroup.procs` files to join.
    pub cgroups: Vec<PathBuf>,
    pub rlimits: Vec<(u32, u64, u64)>,
    pub oom_score_adj: i32,
    pub terminal: Option<(u16, u16)>,
    /// Keep a stdin open.
    pub stdin: bool,
    /// Close stdin when the first client that attached to it leaves.
    pub stdin_once: bool,
    /// Where what it writes is kept; a command's output goes to its caller.
    pub log: Option<LogPlan>,
    /// Who starts it, when that is not the keeper itself.
    #[serde(default)]
    pub runtime: Option<OciRuntime>,
    /// The container in whose process namespace a container runs, when it has not one of its
    /// own and the pod's containers do not share one.
    #[serde(default)]
    pub beside: Option<String>,
}

/// An OCI runtime, and what it is told besides the rest of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OciRuntime {
    pub program: PathBuf,
    /// Where it keeps its own notes of the pod's containers.
    pub state: PathBuf,
    /// The folder of this container's configuration.
    pub bundle: PathBuf,
    /// The container's name there.
    pub id: String,
    /// The control group below each controller's root; none where there are none to use.
    pub group: Option<String>,
    pub limits: Limits,
}

/// Where a container's output is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogPlan {
    pub path: PathBuf,
    /// At this size the file is turned over; one older file is kept.
    pub turn_at: u64,
}

/// Who a process is and what it may do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// A user by name or number and perhaps `:group`, as images write it.
    pub image_user: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub groups: Vec<u32>,
    pub must_not_be_root: bool,
    /// One bit for each capability that stays.
    pub capabilities: u64,
    pub no_new_privileges: bool,
    /// Seccomp programs, each instruction as the kernel's eight bytes.
    pub seccomp: Vec<Vec<u64>>,
}

/// The file system a container sees.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct View {
    /// An empty folder of the sandbox to build in.
    pub scratch: PathBuf,
    /// The root first, then what lies over parts of it.
    pub overlays: Vec<Overlay>,
    pub mounts: Vec<Mount>,
    pub read_only: bool,
    /// Sees and does what the machine's root does.
    pub privileged: bool,
    /// The `/dev/shm` the pod shares.
    pub shm: PathBuf,
}

/// Layers that look like one folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Overlay {
    /// Where in the container; `/` for the root.
    pub at: String,
    /// Highest first.
    pub layers: Vec<PathBuf>,
    /// What the container writes goes here, into `upper`.
    pub writes: PathBuf,
}

/// Something of the machine shown in the container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub source: PathBuf,
    /// A path inside `source` that must not lead out of it.
    pub sub_path: Option<String>,
    /// Make the sub-path when it is missing.
    pub create: bool,
    pub target: String,
    pub read_only: bool,
    /// Show the machine's root as the pod's.
    pub map_users: bool,
}
