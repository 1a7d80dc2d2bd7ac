//! The loop in which everything comes together: what is heard, what has happened, and the clock.

mod work;

use std::{collections::HashMap, fs, io, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use sandlot_api::robot::{
    DeviceInfo,
    wire::{
        Acknowledged, Beat, Desired, LogChunk, LogRequest, PROTOCOL, PresenceState, Registered,
        Registration, RotatedCredential, Topic,
    },
};
use sandlot_supervisor::{Limits, Supervisor};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    artifacts::Fetcher,
    busy::Busy,
    commands::Commands,
    desired::Wanted,
    device::Observer,
    drivers,
    identity::Identity,
    journal::Journal,
    link::{Heard, Link, LinkError, Login, presence},
    logs::Logs,
    metrics::{self, Metrics},
    outbox::Outbox,
    settings::Settings,
    task::Workshop,
};

/// How long a broken connection is left alone, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long the answer to a registration is waited for before it is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many things may have happened and not be noted yet.
const NEWS: usize = 256;
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
    agent.settle();
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
    life: JoinHandle<()>,
}

struct Agent {
    settings: Settings,
    shop: Arc<Workshop>,
    identity: Identity,
    outbox: Outbox,
    wanted: Wanted,
    commands: Arc<Commands>,
    busy: Busy,
    observer: Observer,
    /// What the cluster was last told of the machine.
    told: Option<DeviceInfo>,
    tasks: HashMap<String, Living>,
    /// Commands and installations that were begun by this agent, and whether they are over.
    begun: HashMap<String, bool>,
    errands: JoinSet<String>,
    logs: Logs,
    news: mpsc::Receiver<(Timestamp, sandlot_api::robot::wire::News)>,
    chunks: mpsc::Receiver<(String, LogChunk)>,
    link: Option<Link>,
    session: i64,
    connected: bool,
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
        let supervisor = Supervisor::open(&folder.join("runs"), Limits::default()).await?;
        let (news, heard_news) = mpsc::channel(NEWS);
        let (chunks, heard_chunks) = mpsc::channel(NEWS);
        let shop = Arc::new(Workshop {
            robot: settings.robot.clone(),
            labels: settings.labels.clone(),
            supervisor,
            journal: Journal::open(&folder)?,
            fetcher: Fetcher::new().map_err(io::Error::other)?,
            groups: Default::default(),
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
            wanted: Wanted::open(&folder)?,
            commands: Arc::new(Commands::open(&folder, settings.commands, stop.clone())?),
            shop,
            busy,
            observer: Observer::default(),
            told: None,
            tasks: HashMap::new(),
            begun: HashMap::new(),
            errands: JoinSet::new(),
            logs: Logs::new(chunks),
            news: heard_news,
            chunks: heard_chunks,
            link: None,
            session: 0,
            connected: false,
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
                heard = next(&mut self.link) => self.hear(heard),
                Some((at, news)) = self.news.recv() => self.note(at, news),
                Some((request, chunk)) = self.chunks.recv() => {
                    self.say_json(&Topic::LogChunk(self.settings.robot.clone(), request), &chunk);
                }
                Some(done) = self.errands.join_next() => self.errand_done(done),
                () = until(due) => self.connect()?,
                _ = self.beat.tick() => self.tick(),
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

    /// Opens a connection, or registers again over the one there is.
    fn connect(&mut self) -> Result<(), LinkError> {
        if self.connected {
            self.register();
            return Ok(());
        }
        self.due = None;
        let session = self.identity.next_session();
        self.session = session.unwrap_or_else(|error| {
            tracing::error!(%error, "the number of the connection cannot be kept");
            self.session + 1
        });
        let login = match self.identity.is_registered() {
            true => Login::Own {
                credential: self.identity.credential(),
                session: self.session,
            },
            false => Login::Bootstrap(self.settings.token.as_deref()),
        };
        self.link = Some(Link::open(&self.settings, &login)?);
        Ok(())
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Connected => {
                tracing::info!(
                    broker = self.settings.broker.host,
                    reports = self.outbox.depth(),
                    "connected"
                );
                self.connected = true;
                self.metrics.connections.inc();
                self.alone_since = None;
                self.pause = PAUSES.0;
                if self.identity.is_registered() {
                    let online = presence(PresenceState::Online, self.session);
                    self.say(&Topic::Presence(self.settings.robot.clone()), online, true);
                    self.outbox.begin();
                    self.send_reports();
                }
                self.register();
            }
            Heard::Lost(why) => {
                tracing::info!(why, "the connection is lost; it is made again");
                self.lost();
            }
            Heard::Refused => self.refused(),
            Heard::Message(topic, payload) => self.read(&topic, &payload),
        }
    }

    fn lost(&mut self) {
        self.link = None;
        self.connected = false;
        self.alone_since.get_or_insert_with(Instant::now);
        self.due = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    /// The broker does not let the robot in: it may not know its latest credential, or not know
    /// the robot at all.
    fn refused(&mut self) {
        tracing::warn!("the broker does not let this robot in");
        let fell_back = self.identity.fall_back();
        if !matches!(fell_back, Ok(true)) && self.settings.token.is_some() {
            self.keep(|identity| identity.set_registered(false));
        }
        self.lost();
        self.pause = (self.pause * 4).min(PAUSES.1);
    }

    fn keep(&mut self, change: impl FnOnce(&mut Identity) -> io::Result<()>) {
        if let Err(error) = change(&mut self.identity) {
            tracing::error!(%error, "what the robot knows of itself cannot be kept");
        }
    }

    fn register(&mut self) {
        let info = self.observer.look();
        let own = self.identity.is_registered();
        let robot = self.settings.robot.clone();
        let registration = Registration {
            robot_id: robot.clone(),
            token: match own {
                true => None,
                false => self.settings.token.clone(),
            },
            device_info: json(&info),
            credential: Some(self.identity.credential().to_owned()),
            protocol: Some(PROTOCOL),
            agent: Some(concat!("sandlot/", env!("CARGO_PKG_VERSION")).to_owned()),
            drivers: Some(drivers::available()),
            labels: Some(self.settings.labels.clone()),
        };
        let topic = match own {
            true => Topic::OwnRegister(robot),
            false => Topic::Register,
        };
        self.told = Some(info.lasting());
        self.say_json(&topic, &registration);
        self.due = Some(Instant::now() + PATIENCE);
    }

    fn read(&mut self, topic: &Topic, payload: &[u8]) {
        if topic.robot() != Some(&self.settings.robot) {
            return;
        }
        match topic {
            Topic::Response(_) => self.taken(payload, Self::registered),
            Topic::Desired(_) => self.taken(payload, Self::desired),
            Topic::Acknowledged(_) => self.taken(payload, Self::acknowledged),
            Topic::LogRequest(_) => self.taken(payload, Self::show_log),
            _ => {}
        }
    }

    fn taken<T: serde::de::DeserializeOwned>(&mut self, payload: &[u8], how: fn(&mut Self, T)) {
        if payload.is_empty() {
            return;
        }
        match serde_json::from_slice(payload) {
            Ok(message) => how(self, message),
            Err(error) => {
                tracing::warn!(%error, "a message cannot be understood; it is passed over")
            }
        }
    }

    fn registered(&mut self, answer: Registered) {
        if answer.register_again {
            tracing::info!("the cluster does not know this robot; it registers again");
            self.told = None;
            match self.settings.token.is_some() {
                true => {
                    self.keep(|identity| identity.set_registered(false));
                    self.lost();
                }
                false => self.register(),
            }
            return;
        }
        if !answer.success {
            tracing::warn!(why = answer.message, "the robot was not registered");
            self.due = Some(Instant::now() + PATIENCE);
            return;
        }
        if let Some(revision) = answer.credential_revision {
            self.keep(|identity| identity.learn_revision(revision));
        }
        if let Some(seconds) = answer
            .beat_seconds
            .filter(|seconds| (1..=3600).contains(seconds))
        {
            let wanted = Duration::from_secs(seconds);
            if wanted != self.beat.period() {
                self.beat = tokio::time::interval_at(Instant::now() + wanted, wanted);
                self.beat
                    .set_missed_tick_behavior(MissedTickBehavior::Delay);
            }
        }
        self.due = None;
        tracing::info!(pending = answer.pending, "registered");
        if !self.identity.is_registered() {
            self.keep(|identity| identity.set_registered(true));
            // From here on with the robot's own credential, and its last will.
            self.pause = PAUSES.0;
            self.lost();
        }
    }

    fn desired(&mut self, document: Desired) {
        match self.wanted.take(document) {
            Ok(true) => {
                self.rotate();
                self.settle();
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "what is wanted cannot be kept; it is not begun"),
        }
    }

    fn rotate(&mut self) {
        let Some(wanted) = self.wanted.document().credential_revision else {
            return;
        };
        match self.identity.rotate(wanted) {
            Ok(Some((credential, revision))) => {
                let rotated = RotatedCredential {
                    credential,
                    revision,
                };
                self.say_json(&Topic::Credential(self.settings.robot.clone()), &rotated);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a new credential cannot be kept; the old one stays")
            }
        }
    }

    fn acknowledged(&mut self, told: Acknowledged) {
        if let Err(error) = self.outbox.acknowledge(&told) {
            tracing::warn!(%error, "an acknowledgement cannot be kept; reports are sent again");
        }
    }

    fn show_log(&mut self, request: LogRequest) {
        let run = self.run_of(&request.task);
        self.logs.take(request, run);
    }

    fn note(&mut self, at: Timestamp, news: sandlot_api::robot::wire::News) {
        if let Err(error) = self.outbox.push(at, news) {
            tracing::error!(%error, "a report cannot be kept, and is lost");
        }
        self.metrics.reports.inc();
        self.send_reports();
    }

    fn send_reports(&mut self) {
        if !self.connected || !self.identity.is_registered() {
            return;
        }
        let topic = Topic::Reports(self.settings.robot.clone());
        while let Some(message) = self.outbox.next() {
            if !self.say(&topic, message, false) {
                // There is no room now: everything is sent again with the next beat.
                self.outbox.begin();
                return;
            }
        }
    }

    fn tick(&mut self) {
        self.stop_those_cut_off();
        if !self.connected || !self.identity.is_registered() {
            return;
        }
        let info = self.observer.look();
        let lasting = info.lasting();
        let device_info = match self.told.as_ref() == Some(&lasting) {
            true => Value::Null,
            false => json(&info),
        };
        let beat = Beat {
            robot_id: self.settings.robot.clone(),
            token: None,
            device_info,
            busy: self.busy.reason(),
        };
        if self.say_json(&Topic::OwnHeartbeat(self.settings.robot.clone()), &beat) {
            self.told = Some(lasting);
            self.metrics.beats.inc();
        }
        // What is not acknowledged by now was heard by nobody who could write it down.
        self.outbox.begin();
        self.send_reports();
    }

    fn say_json(&self, topic: &Topic, message: &impl serde::Serialize) -> bool {
        serde_json::to_vec(message).is_ok_and(|bytes| self.say(topic, bytes, false))
    }

    fn say(&self, topic: &Topic, message: Vec<u8>, retain: bool) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.say(topic, message, retain))
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
                if let Err(error) = self.outbox.push(at, news) {
                    tracing::error!(%error, "a report cannot be kept, and is lost");
                }
            }
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
    }
}

fn json(info: &DeviceInfo) -> Value {
    // Numbers and texts are always JSON.
    serde_json::to_value(info).unwrap_or_default()
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
