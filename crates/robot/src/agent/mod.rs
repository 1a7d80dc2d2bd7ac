//! The loop in which everything comes together: what is heard, what has happened, and the clock.

mod reports;
mod talk;
mod work;

use std::{collections::HashMap, fs, io, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use sandlot_api::robot::{
    DeviceInfo,
    wire::{LogChunk, News, PresenceState, TaskReport, Topic},
};
use sandlot_supervisor::{Limits, Owner, Supervisor};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts::Fetcher,
    busy::Busy,
    commands::Commands,
    desired::Wanted,
    device::Observer,
    identity::Identity,
    journal::Journal,
    link::{Heard, Link, LinkError, presence},
    logs::Logs,
    metrics::{self, Metrics},
    orders::Orders,
    outbox::Outbox,
    settings::Settings,
    task::{Labels, Notes, Workshop},
};

/// How long a broken connection is left alone, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long the answer to a registration is waited for before it is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many things may have happened and not be noted yet.
const NEWS: usize = 256;
/// How long what finds no room waits before it is said again.
const CROWDED: Duration = Duration::from_millis(20);
/// How long the tasks' last words are waited for when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its folder cannot be used.
    #[error("the folder {0} cannot be used: {1}")]
    Folder(String, io::Error),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Connection(String),
    /// What is counted cannot be served.
    #[error("metrics cannot be served on {0}: {1}; choose another address with --metrics")]
    Metrics(SocketAddr, io::Error),
}

/// Runs a robot's agent until it is told to stop, or to start anew. Its tasks go on meanwhile: the
/// next agent finds them.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<(), RunError> {
    let folder = settings.folder.display().to_string();
    let mut agent = Agent::open(settings, stop)
        .await
        .map_err(|error| RunError::Folder(folder, error))?;
    agent.settle().await;
    let (page, metrics) = (agent.settings.metrics, agent.metrics.clone());
    let serving = async {
        let Some(address) = page else {
            return std::future::pending().await;
        };
        match metrics::serve(address, metrics).await {
            Ok(()) => std::future::pending().await,
            Err(error) => RunError::Metrics(address, error),
        }
    };
    let ended = tokio::select! {
        ended = agent.go() => ended.map_err(|error| RunError::Connection(error.to_string())),
        failed = serving => Err(failed),
    };
    agent.leave().await;
    ended
}

/// A task that is being lived.
struct Living {
    stop: watch::Sender<bool>,
    /// What its job notes for it.
    notes: watch::Sender<Notes>,
    /// What was last said of it.
    said: Option<TaskReport>,
    life: JoinHandle<()>,
}

/// A version that is being installed.
struct Installing {
    errand: String,
    unwanted: CancellationToken,
    task: AbortHandle,
}

struct Agent {
    settings: Settings,
    shop: Arc<Workshop>,
    identity: Identity,
    outbox: Outbox,
    wanted: Wanted,
    orders: Orders,
    /// What templates see of the robot's labels, as they change.
    labels: watch::Sender<Labels>,
    commands: Arc<Commands>,
    busy: Busy,
    observer: Observer,
    /// What the cluster was last told of the machine.
    told: Option<DeviceInfo>,
    tasks: HashMap<String, Living>,
    /// Commands and installations that were begun by this agent, and whether they are over.
    begun: HashMap<String, bool>,
    /// The installation that is under way of each program.
    installing: HashMap<String, Installing>,
    /// What each was, and whether it came to an end.
    errands: JoinSet<(String, bool)>,
    logs: Logs,
    news: mpsc::Receiver<(Timestamp, News)>,
    chunks: mpsc::Receiver<(String, LogChunk)>,
    /// A piece of output for which there was no room; those after it wait.
    unsaid: Option<(String, LogChunk)>,
    link: Option<Link>,
    session: i64,
    connected: bool,
    /// The server speaks the published protocol alone.
    published: bool,
    /// How often the broker has refused this robot, one time after another.
    refusals: u32,
    /// Up to which report such a server has been told before the last beat.
    taken: i64,
    /// Since when the robot is cut off.
    alone_since: Option<Instant>,
    pause: Duration,
    /// When to connect, or to register again.
    due: Option<Instant>,
    beat: tokio::time::Interval,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Agent {
    async fn open(settings: Settings, stop: CancellationToken) -> io::Result<Self> {
        // Somebody else in this process may have chosen already; then that counts.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = settings.folder.clone();
        for below in ["tasks", "groups", "apps", "cell"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let limits = Limits {
            // Tasks of several jobs run here as one user.
            owner: Owner::Many,
            ..Limits::default()
        };
        let supervisor = Supervisor::open(&folder.join("runs"), limits).await?;
        let (news, heard_news) = mpsc::channel(NEWS);
        let (chunks, heard_chunks) = mpsc::channel(NEWS);
        let wanted = Wanted::open(&folder)?;
        let known = wanted.document().labels.clone();
        let (labels, seen) = watch::channel(known.unwrap_or_else(|| settings.labels.clone()));
        let shop = Arc::new(Workshop {
            robot: settings.robot.clone(),
            labels: seen,
            supervisor,
            journal: Journal::open(&folder)?,
            fetcher: Fetcher::new().map_err(io::Error::other)?,
            groups: Default::default(),
            engine: settings.engine.clone(),
            news,
            folder: folder.clone(),
        });
        let busy = Busy::in_folder(&folder);
        busy.offer()?;
        let mut beat = tokio::time::interval(settings.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            identity: Identity::open(&folder)?,
            outbox: Outbox::open(&folder)?,
            orders: Orders::open(&folder)?,
            wanted,
            labels,
            commands: Arc::new(Commands::open(&folder, settings.commands, stop.clone())?),
            shop,
            busy,
            observer: Observer::default(),
            told: None,
            tasks: HashMap::new(),
            begun: HashMap::new(),
            installing: HashMap::new(),
            errands: JoinSet::new(),
            logs: Logs::new(chunks),
            news: heard_news,
            chunks: heard_chunks,
            unsaid: None,
            link: None,
            session: 0,
            connected: false,
            published: false,
            refusals: 0,
            taken: 0,
            alone_since: Some(Instant::now()),
            pause: PAUSES.0,
            due: Some(Instant::now()),
            beat,
            settings,
            metrics: Arc::default(),
            stop,
        })
    }

    async fn go(&mut self) -> Result<(), LinkError> {
        let stop = self.stop.clone();
        loop {
            let due = self.due;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                heard = next(&mut self.link) => self.hear(heard).await,
                Some((at, news)) = self.news.recv() => self.note(at, news).await,
                () = self.outbox.more() => self.send_reports(),
                Some(piece) = self.chunks.recv(), if self.unsaid.is_none() => self.show(piece),
                () = tokio::time::sleep(CROWDED), if self.unsaid.is_some() && self.connected => {
                    if let Some(piece) = self.unsaid.take() {
                        self.show(piece);
                    }
                }
                Some(done) = self.errands.join_next() => self.errand_done(done),
                () = until(due) => self.connect().await?,
                _ = self.beat.tick() => self.tick().await,
            }
            self.measure();
        }
    }

    /// Notes where things stand, for those who look on.
    fn measure(&self) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.connected.set(i64::from(self.connected));
        self.metrics.waiting.set(number(self.outbox.depth()));
        self.metrics.tasks.set(number(self.tasks.len()));
    }

    /// Notes the last words of what goes on, says goodbye, and lets the programs run on.
    async fn leave(mut self) {
        self.errands.abort_all();
        self.shop.supervisor.close().await;
        let noting = async {
            for (_, living) in self.tasks.drain() {
                living.life.abort();
            }
            while let Ok((at, news)) = self.news.try_recv() {
                if let Err(error) = self.outbox.push(at, news).await {
                    tracing::error!(%error, "a report cannot be kept, and is lost");
                }
            }
            self.outbox.flushed().await;
        };
        let _ = tokio::time::timeout(FAREWELL, noting).await;
        self.send_reports();
        if self.connected && self.identity.is_registered() {
            let gone = presence(PresenceState::Offline, self.session);
            self.say(&Topic::Presence(self.settings.robot.clone()), gone, true);
        }
        if let Some(link) = self.link.take() {
            link.leave().await;
        }
        self.outbox.close().await;
    }
}

/// What is heard next; nothing as long as there is no connection.
async fn next(link: &mut Option<Link>) -> Heard {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
