//! The one loop that owns what is known of robots and of the API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use sandlot_api::robot::wire::CommandReport;
use sandlot_decide::{backoff::Backoff, expiry::later};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    broker::mosquitto::Passwords,
    clock::{Clock, moved},
    index::Index,
    link::{Heard, Mouth},
    logs::{Ask, Readers},
    metrics::Metrics,
    people::People,
    reports::Desk,
    robot::News,
    settings::Settings,
    sights::{self, KINDS, Kind, Object, Sight},
    writes::{self, What, Write, Written},
};

/// How much of one source a round takes in at most.
const ROUND: usize = 256;
/// How many writes are under way at once.
const WRITES: usize = 128;
/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(30);
/// How long it waits until there is room to say more.
const CROWDED: Duration = Duration::from_millis(10);
/// How long what is under way may take to finish when the bridge leaves.
const LEAVING: Duration = Duration::from_secs(5);
/// Waits between attempts at a write that fails.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(30),
};

/// What a robot said of a command, with the number of its report.
pub(crate) struct CommandWord {
    pub(crate) robot: String,
    pub(crate) report: CommandReport,
    pub(crate) at: Timestamp,
    pub(crate) number: (String, i64),
}

/// Writes about an object that failed one after another.
#[derive(Clone, Copy, Default)]
struct Failure {
    times: u32,
    /// Nothing is written about it before then, unless it changes.
    until: Timestamp,
}

/// What is known, and what is under way.
pub(crate) struct Bridge {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mouth: Mouth,
    /// Whether the broker can be reached now.
    pub(crate) connected: bool,
    pub(crate) index: Index,
    pub(crate) people: People,
    pub(crate) desk: Desk,
    /// What robots said of themselves that is not written down yet.
    pub(crate) news: HashMap<String, News>,
    /// The same, while it is being written.
    pub(crate) news_written: HashMap<String, News>,
    /// What robots said of commands that is not written down yet, by the command's uid.
    pub(crate) words: HashMap<String, Vec<CommandWord>>,
    /// Since when robots have known of tasks of which nothing was heard or written yet, by the
    /// task's uid.
    pub(crate) told_since: HashMap<String, Timestamp>,
    /// How many reports the write about a task, or words the write about a command, takes in.
    pub(crate) written: HashMap<(Kind, String), usize>,
    /// Robots that may be acknowledged something.
    pub(crate) acknowledge: HashSet<String>,
    pub(crate) readers: Readers,
    pub(crate) passwords: Option<Passwords>,
    /// What the versions of documents are counted in, and the last of them.
    pub(crate) epoch: String,
    pub(crate) version: i64,
    /// What was refused, which is logged once for each robot and reason.
    pub(crate) grumbled: BTreeSet<(String, &'static str)>,
    busy: HashSet<(Kind, String)>,
    /// Objects that went while something was being written about them: the answer to that write
    /// may come after the word that they are gone, and must not bring them back.
    overtaken: HashSet<(Kind, String)>,
    failures: HashMap<(Kind, String), Failure>,
    wakes: BTreeSet<(Timestamp, Kind, String)>,
    tray: Vec<Write>,
}

impl Bridge {
    /// One that knows nothing yet.
    pub(crate) fn new(
        settings: Arc<Settings>,
        metrics: Arc<Metrics>,
        mouth: Mouth,
        passwords: Option<Passwords>,
    ) -> Self {
        Self {
            passwords,
            settings,
            metrics,
            mouth,
            connected: false,
            index: Index::default(),
            people: People::default(),
            desk: Desk::default(),
            news: HashMap::new(),
            news_written: HashMap::new(),
            words: HashMap::new(),
            told_since: HashMap::new(),
            written: HashMap::new(),
            acknowledge: HashSet::new(),
            readers: Readers::default(),
            epoch: format!("{:x}", Timestamp::now().as_nanosecond()),
            version: 0,
            grumbled: BTreeSet::new(),
            busy: HashSet::new(),
            overtaken: HashSet::new(),
            failures: HashMap::new(),
            wakes: BTreeSet::new(),
            tray: Vec::new(),
        }
    }

    /// Whether nothing may be written about an object now: something is being written, or the
    /// last attempt failed a moment ago. It is looked at again when that is over.
    pub(crate) fn must_wait(&self, kind: Kind, name: &str, now: Timestamp) -> bool {
        let object = (kind, name.to_owned());
        let failure = self.failures.get(&object);
        self.busy.contains(&object) || failure.is_some_and(|failure| failure.until > now)
    }

    /// Writes something about an object that is not busy.
    pub(crate) fn write(&mut self, kind: Kind, name: &str, what: What) {
        self.busy.insert((kind, name.to_owned()));
        self.metrics.writes.inc();
        self.tray.push(Write {
            kind,
            name: name.to_owned(),
            what,
        });
    }

    /// Looks at an object again, no later than then.
    pub(crate) fn wake(&mut self, when: Timestamp, kind: Kind, name: &str) {
        self.wakes.insert((when, kind, name.to_owned()));
    }

    fn see(&mut self, sight: Sight, unlisted: &mut HashSet<Kind>) {
        match sight {
            Sight::There(object) => {
                let (kind, name) = object.place();
                // Another object of the same name: that the old one went was not seen.
                if self.index.is_another(&object) {
                    self.lose(kind, &name);
                }
                self.failures.remove(&(kind, name));
                self.index.see(object);
            }
            Sight::Gone(kind, name) => self.lose(kind, &name),
            Sight::Complete(kind, listed) => {
                for name in self.index.known(kind) {
                    if !listed.contains(&name) {
                        self.lose(kind, &name);
                    }
                }
                let overtaken = self.busy.iter().filter(|(busy, _)| *busy == kind);
                let overtaken = overtaken.filter(|(_, name)| !listed.contains(name));
                self.overtaken.extend(overtaken.cloned());
                unlisted.remove(&kind);
            }
        }
    }

    fn lose(&mut self, kind: Kind, name: &str) {
        let object = (kind, name.to_owned());
        self.failures.remove(&object);
        if self.busy.contains(&object) {
            self.overtaken.insert(object);
        }
        match self.index.lose(kind, name) {
            Some(Object::Robot(_)) => self.lose_robot(name),
            Some(Object::Task(task)) => self.lose_task(&task),
            Some(Object::Command(command)) => self.lose_command(&command),
            _ => {}
        }
    }

    fn take(&mut self, written: Written, now: Timestamp) {
        let Written { kind, name, result } = written;
        let wake = (kind, name);
        self.busy.remove(&wake);
        let overtaken = self.overtaken.remove(&wake);
        let ok = result.is_ok();
        match result {
            Ok(object) => {
                self.failures.remove(&wake);
                if let Some(object) = object.filter(|_| !overtaken) {
                    self.index.see(object);
                }
            }
            Err(error) => {
                let conflict = matches!(&error, kube::Error::Api(status) if status.code == 409);
                self.metrics.failed_writes.inc();
                if !conflict {
                    tracing::warn!(?kind, object = wake.1, %error, "a write failed and is tried again");
                }
                let failure = self.failures.entry(wake.clone()).or_default();
                failure.times = failure.times.saturating_add(1);
                failure.until = later(now, RETRY.after(failure.times));
                self.wakes.insert((failure.until, wake.0, wake.1.clone()));
            }
        }
        match kind {
            Kind::Robot => self.robot_written(&wake.1, ok),
            Kind::Task => self.task_written(&wake.1, ok),
            Kind::Command => self.command_written(&wake.1, ok),
            Kind::Deployment => {}
        }
        if ok {
            self.look(wake.0, &wake.1, now);
        }
    }

    /// Looks at an object about which there may be something to write.
    fn look(&mut self, kind: Kind, name: &str, now: Timestamp) {
        match kind {
            Kind::Robot => self.look_at_robot(name, now),
            Kind::Task => self.look_at_task(name, now),
            Kind::Command => self.look_at_command(name, now),
            Kind::Deployment => {}
        }
    }

    /// Does all that is due.
    fn decide(&mut self, now: Timestamp) {
        while let Some((when, _, _)) = self.wakes.first()
            && *when <= now
        {
            let Some((_, kind, name)) = self.wakes.pop_first() else {
                break;
            };
            self.look(kind, &name, now);
        }
        let mut robots = std::mem::take(&mut self.index.fresh_robots);
        robots.append(&mut self.people.moved);
        robots.extend(self.news.keys().cloned());
        for robot in robots {
            self.look_at_robot(&robot, now);
        }
        for task in std::mem::take(&mut self.index.fresh_tasks) {
            self.look_at_task(&task, now);
        }
        for command in std::mem::take(&mut self.index.fresh_commands) {
            self.look_at_command(&command, now);
        }
        if self.connected {
            self.tell(now);
        }
    }

    /// The clock was set by so much: what is due then is due at the same moment as before.
    fn set_clock(&mut self, by: SignedDuration) {
        tracing::warn!(by = %by, "the clock was set");
        self.people.set_clock(by);
        for at in self.told_since.values_mut() {
            *at = moved(*at, by);
        }
        for failure in self.failures.values_mut() {
            failure.until = moved(failure.until, by);
        }
        let wakes = std::mem::take(&mut self.wakes).into_iter();
        self.wakes = wakes
            .map(|(when, kind, name)| (moved(when, by), kind, name))
            .collect();
    }

    /// Forgets that anybody was told anything: the broker is another, or has begun anew.
    fn reconnected(&mut self) {
        self.connected = true;
        self.metrics.connected.set(1);
        self.people.forget_told();
        self.index.stale.extend(self.index.robots.keys().cloned());
    }
}

/// Works until told to leave.
pub(crate) async fn work(
    client: Client,
    mut bridge: Bridge,
    mut heard: mpsc::Receiver<Heard>,
    mut asked: mpsc::Receiver<Ask>,
    ready: impl FnOnce(),
    cancel: CancellationToken,
) {
    let namespace = bridge.settings.namespace.clone();
    let (mut seen, _watches) = sights::start(&client, &namespace);
    let mut answers: JoinSet<Box<Written>> = JoinSet::new();
    let gate = Arc::new(Semaphore::new(WRITES));
    let mut unlisted: HashSet<Kind> = KINDS.into_iter().collect();
    let mut ready = Some(ready);
    let (mut sights, mut said) = (Vec::with_capacity(ROUND), Vec::with_capacity(ROUND));
    let mut check = tokio::time::interval(bridge.settings.check);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut clock = Clock::new(Timestamp::now(), Instant::now());
    loop {
        let (mut answered, mut is_to_check) = (None, false);
        let pause = match bridge.wakes.first() {
            // There was no room to tell somebody something.
            _ if bridge.connected && !bridge.index.stale.is_empty() => CROWDED,
            Some((when, _, _)) => {
                let left = when
                    .duration_since(Timestamp::now())
                    .max(SignedDuration::ZERO);
                Duration::try_from(left).unwrap_or(IDLE).min(IDLE)
            }
            None => IDLE,
        };
        // What robots say waits until all is known that it may be about.
        let listed = unlisted.is_empty();
        tokio::select! {
            () = cancel.cancelled() => break,
            count = seen.recv_many(&mut sights, ROUND) => {
                if count == 0 {
                    tracing::error!("the watches have ended");
                    break;
                }
            }
            count = heard.recv_many(&mut said, ROUND), if listed => {
                if count == 0 {
                    break;
                }
            }
            Some(written) = answers.join_next() => match written {
                Ok(written) => answered = Some(written),
                Err(error) => tracing::error!(%error, "a write panicked"),
            },
            Some(ask) = asked.recv(), if listed => bridge.ask(ask),
            _ = check.tick() => is_to_check = true,
            () = tokio::time::sleep(pause) => {}
        }
        let now = Timestamp::now();
        if let Some(by) = clock.set_by(now, Instant::now()) {
            bridge.set_clock(by);
        }
        if let Some(written) = answered {
            bridge.take(*written, now);
        }
        if is_to_check {
            bridge.check(now);
        }
        for sight in sights.drain(..) {
            bridge.see(sight, &mut unlisted);
        }
        for message in said.drain(..) {
            match message {
                Heard::Connected => bridge.reconnected(),
                Heard::Gone => {
                    bridge.connected = false;
                    bridge.metrics.connected.set(0);
                }
                Heard::Said {
                    topic,
                    payload,
                    retained,
                    _room,
                } => {
                    bridge.hear(&topic, &payload, retained, now);
                }
                Heard::TooLong { topic } => bridge.hear_too_long(&topic),
            }
        }
        if !unlisted.is_empty() {
            continue;
        }
        if let Some(ready) = ready.take() {
            bridge.begin(now);
            ready();
        }
        bridge.decide(now);
        for write in std::mem::take(&mut bridge.tray) {
            let (client, namespace, gate) = (client.clone(), namespace.clone(), gate.clone());
            answers.spawn(async move {
                // The gate is never closed, so there is always a place sooner or later.
                let _place = gate.acquire_owned().await;
                Box::new(writes::carry_out(client, namespace, write).await)
            });
        }
    }
    drop(seen);
    let finish = async { while answers.join_next().await.is_some() {} };
    if tokio::time::timeout(LEAVING, finish).await.is_err() {
        tracing::warn!("some writes did not finish in time and are abandoned");
    }
}

/// Counts by a key.
pub(crate) fn counted<K: Ord>(items: impl Iterator<Item = K>) -> BTreeMap<K, i64> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}
