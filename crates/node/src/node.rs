//! The node: starting, taking on pods, stopping.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::cgroup::Cgroups;
use crate::claims::Claims;
use crate::config::NodeConfig;
use crate::events::Events;
use crate::images::{Image, ImageError, Images, Wanting, door};
use crate::log_files::LogFiles;
use crate::network::{Ground, Network, Traffic, Wanted};
use crate::pod::Sources;
use crate::rates::Rates;
use crate::runtime::{self, Runtime};
use crate::sandbox::pool::Pool;
use crate::sandbox::{Record, Sandbox, Zygote};
use crate::schedule::{self, Seat};
use crate::visits::{self, Visits};
use crate::worker::view::View;
use crate::worker::{self, Event, Worker};
use crate::{changes, claims, intake, registration};

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data folder cannot be used.
    #[error("cannot use the node's folder {folder}: {error}; give it another with --data-dir")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The process that keeps pods could not be started.
    #[error("cannot start the process that keeps the pods: {0}")]
    Zygote(std::io::Error),
    /// The pods' network could not be made.
    #[error("cannot make the pods' network: {0}; `sandlot doctor` says what this machine offers")]
    Network(std::io::Error),
    /// The images that come with the program could not be unpacked.
    #[error("cannot make the images that come with the program: {0}")]
    Images(std::io::Error),
    /// The API did not take the node.
    #[error("the API does not take the node: {0}")]
    Api(#[from] kube::Error),
}

/// What becomes of the pods when the node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// They are ended, each with its grace (half a minute at most). Their logs are kept.
    StopPods,
    /// They go on; the next start finds them.
    LeavePods,
}

/// A node that runs pods on this machine.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// What every worker uses.
pub(crate) struct Shared {
    pub(crate) client: kube::Client,
    pub(crate) node_name: String,
    pub(crate) runtime: Runtime,
    pub(crate) host_ip: String,
    pub(crate) allow_privileged: bool,
    /// What no pod may see of the machine.
    pub(crate) closed_folders: Vec<PathBuf>,
    pub(crate) longest_token_use: SignedDuration,
    pub(crate) pool: Arc<Pool>,
    pub(crate) network: Arc<Network>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) cgroups: Cgroups,
    pub(crate) events: Events,
    pub(crate) logs: LogFiles,
    pub(crate) claims: Claims,
    pub(crate) rates: Mutex<Rates>,
    pub(crate) visits: Visits,
    pub(crate) capacity: registration::Capacity,
    /// Who may come, as the node's object says.
    pub(crate) seat: watch::Sender<Seat>,
    pub(crate) workers: Mutex<HashMap<String, Worker>>,
    /// Told of each pod that is taken on.
    pub(crate) taken_on: Notify,
    /// Sandboxes from before, until their pods are seen.
    pub(crate) found: Mutex<HashMap<String, Sandbox>>,
    pub(crate) images: Images,
    pub(crate) data_dir: PathBuf,
    service_env: Vec<(String, String)>,
    stop: CancellationToken,
    /// Cancelled first: no pod is taken on any more.
    closed: CancellationToken,
}

/// A task of the node that takes longer to end is cut off.
const LONGEST_TASK: Duration = Duration::from_secs(10);
/// A pod that takes longer to end is killed when the node stops.
const LONGEST_STOP: SignedDuration = SignedDuration::from_secs(30);

impl Node {
    /// Starts a node and makes it known to the API.
    pub async fn start(config: NodeConfig) -> Result<Arc<Node>, NodeError> {
        let folder = config.data_dir.clone();
        let in_folder = |error| NodeError::Folder {
            folder: folder.clone(),
            error,
        };
        prepare_folder(&config.data_dir).map_err(in_folder)?;
        let data_dir = config.data_dir.canonicalize().map_err(in_folder)?;
        let program = config
            .zygote
            .clone()
            .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let ground = Ground::of_machine(config.packet_rules);
        let zygote = Zygote::start(&program, &data_dir, ground.apart).await;
        let zygote = Arc::new(zygote.map_err(NodeError::Zygote)?);
        let network = Arc::new(
            Network::open(
                &data_dir,
                &zygote,
                Wanted {
                    ground,
                    egress: config.egress,
                    agent_ports: &config.agent_ports,
                },
            )
            .await
            .map_err(NodeError::Network)?,
        );
        let sandboxes = data_dir.join("sandboxes");
        let images = Images::open(
            &data_dir.join("images"),
            &sandboxes,
            &config.builtin_images,
            config.missing_images,
            config.docker_config.clone(),
            config.kept_images.clone(),
        );
        let images = images.map_err(NodeError::Images)?;
        let stop = CancellationToken::new();
        let pool = Pool::open(&sandboxes, zygote, network.clone(), config.sandboxes_ready)
            .map_err(|error| NodeError::Folder {
                folder: sandboxes.clone(),
                error,
            })?;
        let cgroups = Cgroups::open(&group_name(&data_dir));
        let (events, events_writer) = Events::start(
            config.client.clone(),
            config.node_name.clone(),
            stop.clone(),
        );
        let logs = LogFiles::open(data_dir.join("logs")).map_err(in_folder)?;
        let (traffic, traffic_keeper) = Traffic::start(
            network.clone(),
            &config.client,
            events.clone(),
            stop.clone(),
        );
        let claims = Claims::new(config.client.clone(), data_dir.join("claims"));
        let shared = Arc::new(Shared {
            closed_folders: closed_folders(&config, &data_dir),
            longest_token_use: SignedDuration::try_from(config.longest_token_use)
                .unwrap_or(SignedDuration::MAX),
            client: config.client,
            node_name: config.node_name,
            runtime: config.runtime,
            host_ip: network.gateway().to_string(),
            allow_privileged: config.allow_privileged,
            pool,
            network,
            traffic,
            cgroups,
            events,
            logs,
            claims,
            rates: Mutex::default(),
            visits: Visits::default(),
            capacity: registration::Capacity::of_machine(),
            seat: watch::Sender::default(),
            workers: Mutex::default(),
            taken_on: Notify::new(),
            found: Mutex::default(),
            images,
            service_env: config.service_env,
            closed: stop.child_token(),
            stop: stop.clone(),
            data_dir,
        });
        // Open before anybody is told that the node is there.
        let at_door = door::listen(&shared.data_dir).map_err(in_folder)?;
        find_sandboxes(&shared, &sandboxes).await;
        registration::register(&shared).await?;
        shared.claims.offer().await?;
        runtime::offer(&shared.client).await?;
        let tasks = vec![
            tokio::spawn(shared.pool.clone().keep_ready(stop.clone())),
            events_writer,
            traffic_keeper,
            tokio::spawn(registration::keep_up(shared.clone())),
            tokio::spawn(schedule::follow(shared.clone())),
            tokio::spawn(intake::run(shared.clone())),
            tokio::spawn(changes::run(shared.clone())),
            tokio::spawn(claims::run(shared.clone())),
            tokio::spawn(crate::rates::measure(shared.clone())),
            tokio::spawn(visits::tell(shared.clone())),
            tokio::spawn(door::serve(shared.clone(), at_door)),
        ];
        Ok(Arc::new(Node {
            shared,
            stop,
            tasks: Mutex::new(tasks),
        }))
    }

    /// Stops the node; with [`StopMode::StopPods`] nothing of it is left running.
    pub async fn stop(&self, mode: StopMode) {
        self.shared.closed.cancel();
        if mode == StopMode::StopPods {
            self.end_pods(Timestamp::now() + LONGEST_STOP).await;
        }
        self.stop.cancel();
        let workers: Vec<_> = lock(&self.shared.workers)
            .drain()
            .map(|(_, worker)| worker.task)
            .collect();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for mut task in workers.into_iter().chain(tasks) {
            // They have been told to end; one that makes a sandbox finishes it first.
            if tokio::time::timeout(LONGEST_TASK, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.shared.pool.drain().await;
        if mode == StopMode::StopPods {
            // A worker that took too long was ended in the middle of its cleaning up.
            for dir in folders(&self.shared.data_dir.join("sandboxes")) {
                remove_left(&self.shared, &dir).await;
            }
            self.shared.network.close().await;
            self.shared.cgroups.close();
        }
    }

    /// This machine speaks to itself at these ports of its loopback, as to the API: the kernel need
    /// not keep track of that for pods' sake.
    pub fn speaks_to_itself_at(&self, ports: impl IntoIterator<Item = u16>) {
        self.shared.traffic.speaks_at(ports.into_iter().collect());
    }

    /// Pods that are being ended because the node stops are given no more time.
    pub async fn hurry(&self) {
        self.tell_to_leave(Timestamp::now()).await;
    }

    /// Ends all pods and waits until they are gone, the last at the deadline.
    async fn end_pods(&self, deadline: Timestamp) {
        self.tell_to_leave(deadline).await;
        let patience = deadline.duration_since(Timestamp::now());
        let patience = Duration::try_from(patience).unwrap_or_default() + LONGEST_TASK;
        let ends: Vec<_> = lock(&self.shared.workers)
            .values()
            .map(|worker| worker.ended.clone())
            .collect();
        let all = futures::future::join_all(ends.iter().map(CancellationToken::cancelled));
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("some pods did not end in time; they are killed");
        }
    }

    async fn tell_to_leave(&self, deadline: Timestamp) {
        let inboxes: Vec<_> = lock(&self.shared.workers)
            .values()
            .map(|worker| worker.events.clone())
            .collect();
        for inbox in inboxes {
            // One that has ended has nothing to leave.
            let _ = inbox.send(Event::Leave(deadline)).await;
        }
    }
}

/// A lock that a panic elsewhere does not make unusable: what it guards is whole at all times.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare_folder(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(dir)?;
    // Secrets of pods lie in it.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

/// The folders that no pod may see, as they are when all links are followed.
fn closed_folders(config: &NodeConfig, data_dir: &std::path::Path) -> Vec<PathBuf> {
    if config.allow_privileged {
        return Vec::new();
    }
    let others = config.closed_folders.iter();
    let others = others.filter_map(|folder| folder.canonicalize().ok());
    others.chain([data_dir.to_owned()]).collect()
}

fn group_name(data_dir: &std::path::Path) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    format!(
        "sandlot-{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    )
}

/// Looks at what a node before this one left: pods' sandboxes are kept for their pods,
/// everything else is removed.
async fn find_sandboxes(shared: &Arc<Shared>, folder: &std::path::Path) {
    for dir in folders(folder) {
        match Record::read(&dir) {
            Ok(record) if record.owner.is_some() && shared.network.reaches_earlier() => {
                shared.pool.adopt(&record);
                let uid = record
                    .owner
                    .as_ref()
                    .map(|owner| owner.uid.clone())
                    .unwrap_or_default();
                lock(&shared.found).insert(uid, Sandbox { dir, record });
            }
            _ => remove_left(shared, &dir).await,
        }
    }
}

fn folders(above: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(above).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// Removes what is left of a sandbox that no pod has any more.
async fn remove_left(shared: &Shared, dir: &std::path::Path) {
    let removed = match Record::read(dir) {
        Ok(record) => {
            record.kill_keeper();
            shared.cgroups.sandbox(&record.id).remove();
            shared.pool.clear(dir, record.slot).await
        }
        Err(_) => std::fs::remove_dir_all(dir),
    };
    if let Err(error) = removed {
        tracing::warn!(sandbox = %dir.display(), %error, "cannot remove what is left of a sandbox");
    }
}

impl Shared {
    /// The address of a sandbox's pod.
    pub(crate) fn pod_ip(&self, record: &Record) -> Option<String> {
        if record.host_network {
            return Some(self.host_ip.clone());
        }
        Some(self.network.shown(record.slot).to_string())
    }

    /// An image, pulled when the policy says so.
    pub(crate) async fn image(
        &self,
        wanting: Wanting<'_>,
        name: &str,
        policy: Option<&str>,
    ) -> Result<Image, ImageError> {
        self.images.get(self, wanting, name, policy).await
    }

    /// What an environment may refer to, without what must be fetched.
    pub(crate) fn sources(&self, pod: &Pod) -> Sources {
        let linked = pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
        Sources {
            services: if linked {
                self.service_env.clone()
            } else {
                Vec::new()
            },
            host_ip: Some(self.host_ip.clone()),
            node_name: self.node_name.clone(),
            node_cpu_milli: i128::from(self.capacity.cpu_milli),
            node_memory_bytes: self.capacity.memory_bytes,
            ..Sources::default()
        }
    }

    /// Ends a sandbox and removes all that is left of it.
    pub(crate) async fn forget_sandbox(&self, sandbox: &Sandbox) {
        self.move_out(sandbox);
        let destroyed = self.pool.destroy(sandbox).await;
        self.cgroups.sandbox(sandbox.id()).remove();
        if let Err(error) = destroyed {
            tracing::warn!(sandbox = sandbox.id(), %error, "something of a sandbox is left");
        }
    }

    /// Nobody lives at a sandbox's address from now on.
    fn move_out(&self, sandbox: &Sandbox) {
        if !sandbox.record.host_network {
            self.traffic
                .leave(self.network.address(sandbox.record.slot).ip);
        }
    }

    /// Ends a sandbox's keeper but keeps its files, for logs.
    pub(crate) async fn rest_sandbox(&self, sandbox: &Sandbox) {
        sandbox.leave().await;
        self.move_out(sandbox);
        self.network.disconnect(sandbox.record.slot).await;
        self.cgroups.sandbox(sandbox.id()).remove();
    }

    pub(crate) fn views(&self) -> Vec<View> {
        lock(&self.workers)
            .values()
            .filter(|worker| !worker.task.is_finished())
            .map(|worker| lock(&worker.view).clone())
            .collect()
    }

    pub(crate) fn view_of(&self, namespace: &str, name: &str) -> Option<View> {
        let workers = lock(&self.workers);
        let found = workers
            .values()
            .map(|worker| lock(&worker.view))
            .find(|view| view.namespace == namespace && view.name == name);
        found.map(|view| view.clone())
    }

    /// Gives a pod's news to its worker, or a worker to a new pod.
    pub(crate) async fn on_pod(self: &Arc<Self>, pod: Pod) {
        self.traffic.observe(&pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let known = lock(&self.workers)
            .get(&uid)
            .filter(|worker| !worker.task.is_finished())
            .map(|worker| worker.events.clone());
        match known {
            Some(events) => {
                let _ = events.send(Event::Changed(Box::new(pod))).await;
            }
            None => {
                let found = lock(&self.found).remove(&uid);
                let worker = worker::start(self.clone(), pod, found, self.stop.child_token());
                let mut workers = lock(&self.workers);
                workers.retain(|_, worker| !worker.task.is_finished());
                workers.insert(uid, worker);
                self.taken_on.notify_one();
            }
        }
    }

    /// A pod is no longer in the API.
    pub(crate) async fn on_gone(&self, uid: &str) {
        let events = lock(&self.workers)
            .get(uid)
            .map(|worker| worker.events.clone());
        if let Some(events) = events {
            let _ = events.send(Event::Gone).await;
        }
    }

    /// The node stops.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// No pods are taken on any more.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }
}
