//! Robots that are not there: they register, beat and report as any other, and only make believe
//! that they work. For looking at, for measuring, and for tests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Packet, QoS, SubscribeFilter,
};
use sandlot_api::robot::{
    CommandResultState, DeploymentState, TaskState,
    wire::{
        Acknowledged, AttemptKey, Beat, CommandReport, DeploymentReport, Desired,
        DesiredDeployment, News, PROTOCOL, Presence, PresenceState, Registered, Registration,
        Report, Reports, TaskReport, Topic,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::broker::BOOTSTRAP;

/// How long it waits before it tries again what did not work.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the broker may refuse it before it registers once more.
const REFUSALS: u32 = 10;
/// How long a task that is to be kept running runs: longer than anybody looks.
const KEPT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long it waits for a word before it says the same again.
const RESEND: Duration = Duration::from_secs(3);

/// A robot to simulate.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// What it calls itself.
    pub id: String,
    /// The broker's name or address, and its port.
    pub broker: (String, u16),
    /// What it registers with.
    pub token: String,
    /// Whether it logs in, as brokers with rules ask for.
    pub login: bool,
    /// How often it beats.
    pub beat: Duration,
    /// How long each task seems to take.
    pub work: Duration,
    /// The labels it asks for.
    pub labels: Vec<(String, String)>,
    /// The command that fails on it, or the version, as one that does not suit a robot would.
    pub fails: Option<String>,
}

impl Simulated {
    /// Lives until cancelled.
    pub async fn live(self, cancel: CancellationToken) {
        // Credentials are as random as real ones: the bridge accepts nothing less.
        let credential = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let this = Arc::new(self);
        let mut body = Body::new(this.clone(), &credential);
        let mut registered = !this.login;
        let mut refusals = 0;
        let living = async {
            loop {
                if !registered && this.register(&credential).await.is_ok() {
                    (registered, refusals) = (true, 0);
                }
                if registered {
                    body.connect(&credential);
                    match body.run().await {
                        Left::Lost => refusals = 0,
                        // The broker may not have read the credential yet.
                        Left::Refused => refusals += 1,
                        Left::Forgotten => registered = !this.login,
                    }
                    registered &= !this.login || refusals < REFUSALS;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        cancel.run_until_cancelled(living).await;
    }

    fn registration(&self, token: Option<String>, credential: Option<String>) -> Registration {
        Registration {
            robot_id: self.id.clone(),
            token,
            credential,
            device_info: json!({
                "hostname": self.id,
                "platform": { "os": "linux", "arch": "simulated", "platform": "none" },
                "cpu": { "logicalCores": 4, "physicalCores": 4 },
                "memory": { "total": 4_294_967_296_i64 },
            }),
            protocol: Some(PROTOCOL),
            agent: Some(concat!("sandlot-simulated/", env!("CARGO_PKG_VERSION")).to_owned()),
            drivers: Some(["raw_exec", "exec"].map(str::to_owned).into()),
            labels: Some(self.labels.iter().cloned().collect()),
        }
    }

    /// Registers with the bootstrap token, until the bridge says that it worked.
    async fn register(&self, credential: &str) -> Result<(), ConnectionError> {
        let mut options = self.options(&format!("k8s4r-boot-{}", self.id));
        options.set_credentials(BOOTSTRAP, &self.token);
        let (client, mut wire) = AsyncClient::new(options, 16);
        let response = Topic::Response(self.id.clone());
        let asked = self.registration(Some(self.token.clone()), Some(credential.to_owned()));
        let mut again = tokio::time::interval(RESEND);
        again.tick().await;
        loop {
            let event = tokio::select! {
                event = wire.poll() => event?,
                _ = again.tick() => {
                    send(&client, &Topic::Register, &asked, false);
                    continue;
                }
            };
            match event {
                Event::Incoming(Packet::ConnAck(_)) => {
                    // A full queue is emptied by the next attempt.
                    let _ = client.try_subscribe(response.to_string(), QoS::AtLeastOnce);
                }
                Event::Incoming(Packet::SubAck(_)) => {
                    send(&client, &Topic::Register, &asked, false);
                }
                Event::Incoming(Packet::Publish(message)) => {
                    let answer: Option<Registered> = read(&message.payload);
                    if answer.is_some_and(|answer| answer.success) {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
    }

    fn options(&self, client: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client, &self.broker.0, self.broker.1);
        options
            .set_keep_alive(Duration::from_secs(60))
            .set_max_packet_size(1 << 20, 1 << 20);
        options
    }
}

/// Why a connection is over.
enum Left {
    /// It broke.
    Lost,
    /// The broker does not let the robot in.
    Refused,
    /// The robot is told to register again.
    Forgotten,
}

/// A connection with a last will of its own.
fn connection(robot: &Simulated, session: i64, credential: &str) -> (AsyncClient, EventLoop) {
    let mut options = robot.options(&format!("k8s4r-agent-{}", robot.id));
    options.set_clean_session(false);
    if robot.login {
        options.set_credentials(&robot.id, credential);
    }
    let will = Presence {
        state: PresenceState::ConnectionBroken,
        session,
        at: None,
    };
    // Plain data: writing it as JSON cannot fail.
    let will = serde_json::to_vec(&will).unwrap_or_default();
    let topic = Topic::Presence(robot.id.clone()).to_string();
    options.set_last_will(LastWill::new(topic, will, QoS::AtLeastOnce, true));
    let (client, mut wire) = AsyncClient::new(options, 256);
    // As real ones do.
    wire.network_options.set_tcp_nodelay(true);
    (client, wire)
}

/// A simulated robot that is connected.
struct Body {
    robot: Arc<Simulated>,
    client: AsyncClient,
    wire: EventLoop,
    session: i64,
    spool: String,
    sequence: i64,
    unacknowledged: Vec<Report>,
    /// Attempts that were begun, and when they end; nothing once they have.
    tasks: HashMap<AttemptKey, Option<tokio::time::Instant>>,
    names: HashMap<AttemptKey, (String, String)>,
    commands: Vec<String>,
    /// What came of each program that it was told to install.
    apps: HashMap<String, DeploymentReport>,
}

impl Body {
    fn new(robot: Arc<Simulated>, credential: &str) -> Self {
        let session = Timestamp::now().as_millisecond();
        let (client, wire) = connection(&robot, session, credential);
        Self {
            robot,
            client,
            wire,
            session,
            spool: format!("{:016x}", rand::random::<u64>()),
            sequence: 0,
            unacknowledged: Vec::new(),
            tasks: HashMap::new(),
            names: HashMap::new(),
            commands: Vec::new(),
            apps: HashMap::new(),
        }
    }

    /// Begins another connection; what it has done it remembers.
    fn connect(&mut self, credential: &str) {
        self.session = Timestamp::now().as_millisecond().max(self.session + 1);
        (self.client, self.wire) = connection(&self.robot, self.session, credential);
    }

    async fn run(&mut self) -> Left {
        let mut beat = tokio::time::interval(self.robot.beat);
        // Beats of many robots do not fall together.
        beat.reset_after(self.robot.beat.mul_f64(rand::random::<f64>()));
        let mut again = tokio::time::interval(RESEND);
        loop {
            let next = self.tasks.values().flatten().min().copied();
            let ended = async {
                match next {
                    Some(when) => tokio::time::sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.wire.poll() => match event {
                    Ok(Event::Incoming(packet)) => {
                        if self.is_forgotten(&packet) {
                            return Left::Forgotten;
                        }
                        self.take(packet);
                    }
                    Ok(_) => {}
                    Err(ConnectionError::ConnectionRefused(
                        ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
                    )) => return Left::Refused,
                    Err(_) => return Left::Lost,
                },
                _ = beat.tick() => self.beat(),
                _ = again.tick() => self.resend(),
                () = ended => self.finish(),
            }
        }
    }

    fn id(&self) -> String {
        self.robot.id.clone()
    }

    fn beat(&self) {
        let beat = Beat {
            robot_id: self.id(),
            ..Beat::default()
        };
        send(&self.client, &Topic::OwnHeartbeat(self.id()), &beat, false);
    }

    fn reports(&self, reports: Vec<Report>) -> Reports {
        let first = reports.first().map_or(0, |first| first.sequence);
        let before = self.unacknowledged.iter().rev();
        let before = before.map(|kept| kept.sequence).find(|kept| *kept < first);
        Reports {
            spool: self.spool.clone(),
            after: before.unwrap_or(0),
            reports,
        }
    }

    fn resend(&self) {
        if !self.unacknowledged.is_empty() {
            let reports = self.reports(self.unacknowledged.clone());
            send(&self.client, &Topic::Reports(self.id()), &reports, false);
        }
    }

    /// Whether it is told to register again: then it begins anew.
    fn is_forgotten(&self, packet: &Packet) -> bool {
        let Packet::Publish(message) = packet else {
            return false;
        };
        let answer = || read::<Registered>(&message.payload);
        Topic::read(&message.topic) == Some(Topic::Response(self.id()))
            && answer().is_some_and(|answer| answer.register_again)
    }

    fn take(&mut self, packet: Packet) {
        match packet {
            Packet::ConnAck(_) => {
                let topics = [
                    Topic::Desired(self.id()),
                    Topic::Acknowledged(self.id()),
                    Topic::Response(self.id()),
                ];
                let filters =
                    topics.map(|topic| SubscribeFilter::new(topic.to_string(), QoS::AtLeastOnce));
                // A full queue is emptied by the next connection.
                let _ = self.client.try_subscribe_many(filters);
            }
            Packet::SubAck(_) => {
                let token = (!self.robot.login).then(|| self.robot.token.clone());
                let asked = self.robot.registration(token, None);
                let topic = match self.robot.login {
                    true => Topic::OwnRegister(self.id()),
                    false => Topic::Register,
                };
                send(&self.client, &topic, &asked, false);
                let presence = Presence {
                    state: PresenceState::Online,
                    session: self.session,
                    at: None,
                };
                send(&self.client, &Topic::Presence(self.id()), &presence, true);
                self.resend();
            }
            Packet::Publish(message) => match Topic::read(&message.topic) {
                Some(Topic::Desired(_)) => {
                    if let Some(desired) = read::<Desired>(&message.payload) {
                        self.obey(desired);
                    }
                }
                Some(Topic::Acknowledged(_)) => {
                    let upto: Option<Acknowledged> = read(&message.payload);
                    if let Some(upto) = upto.filter(|upto| upto.spool == self.spool) {
                        self.unacknowledged
                            .retain(|report| report.sequence > upto.sequence);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Begins and ends what it is told to.
    fn obey(&mut self, desired: Desired) {
        let wanted: Vec<AttemptKey> = desired.tasks.iter().map(|task| task.key.clone()).collect();
        self.tasks.retain(|key, _| wanted.contains(key));
        self.names.retain(|key, _| wanted.contains(key));
        for task in desired.tasks {
            let known = self.tasks.get(&task.key).copied();
            let name = (task.name, task.namespace);
            self.names.insert(task.key.clone(), name);
            if task.stop {
                if known != Some(None) {
                    self.tasks.insert(task.key.clone(), None);
                    self.report(&task.key, TaskState::Cancelled, "Stopped", None);
                }
            } else if known.is_none() {
                let work = if task.service { KEPT } else { self.robot.work };
                let end = tokio::time::Instant::now() + work;
                self.tasks.insert(task.key.clone(), Some(end));
                self.report(&task.key, TaskState::Running, "Started", None);
                let config = &task.definition.config.exec_config;
                let command = config.as_ref().map(|config| &config.command);
                if command.is_some() && command == self.robot.fails.as_ref() {
                    self.tasks.insert(task.key.clone(), None);
                    self.report(&task.key, TaskState::Failed, "Failed", Some(1));
                }
            }
        }
        for command in desired.commands {
            if !command.cancel && !self.commands.contains(&command.uid) {
                self.commands.push(command.uid.clone());
                let report = CommandReport {
                    uid: command.uid,
                    name: command.name,
                    state: CommandResultState::Succeeded,
                    exit_code: Some(0),
                    output: Some("simulated\n".to_owned()),
                    message: None,
                };
                self.tell(News::Command(report));
            }
        }
        for wanted in desired.deployments {
            self.install(wanted);
        }
        if self.robot.work.is_zero() {
            self.finish();
        }
    }

    /// Makes believe that it installs a version; one that fails is healthy nowhere.
    fn install(&mut self, wanted: DesiredDeployment) {
        let known = self.apps.get(&wanted.uid);
        if known.is_some_and(|known| {
            (known.generation, &known.version) == (wanted.generation, &wanted.version)
        }) {
            return;
        }
        let before = known.and_then(|known| known.active_version.clone());
        let fails = self.robot.fails.as_ref() == Some(&wanted.version);
        let (state, active) = match (fails, before) {
            (false, _) => (DeploymentState::Healthy, Some(wanted.version.clone())),
            (true, None) => (DeploymentState::Failed, None),
            (true, before) => (DeploymentState::RolledBack, before),
        };
        let report = DeploymentReport {
            uid: wanted.uid.clone(),
            name: wanted.name,
            generation: wanted.generation,
            version: wanted.version,
            state,
            active_version: active,
            message: fails.then(|| "it does not suit this robot".to_owned()),
        };
        self.apps.insert(wanted.uid, report.clone());
        self.tell(News::Deployment(report));
    }

    /// Ends what is due.
    fn finish(&mut self) {
        let now = tokio::time::Instant::now();
        let due = |end: &Option<tokio::time::Instant>| end.is_some_and(|end| end <= now);
        let over: Vec<AttemptKey> = self
            .tasks
            .iter()
            .filter(|(_, end)| due(end))
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.tasks.insert(key.clone(), None);
            self.report(&key, TaskState::Completed, "Completed", Some(0));
        }
    }

    fn report(&mut self, key: &AttemptKey, state: TaskState, event: &str, exit: Option<i32>) {
        let (name, namespace) = self.names.get(key).cloned().unwrap_or_default();
        let report = TaskReport {
            key: key.clone(),
            name,
            namespace,
            state,
            event: Some(event.to_owned()),
            exit_code: exit,
            stdout: exit.map(|_| "simulated\n".to_owned()),
            ..TaskReport::default()
        };
        self.tell(News::Task(Box::new(report)));
    }

    fn tell(&mut self, news: News) {
        self.sequence += 1;
        let report = Report {
            sequence: self.sequence,
            at: Timestamp::now(),
            news,
        };
        self.unacknowledged.push(report.clone());
        let reports = self.reports(vec![report]);
        send(&self.client, &Topic::Reports(self.id()), &reports, false);
    }
}

/// Says something, if there is room; what does not fit is said again later.
fn send(client: &AsyncClient, topic: &Topic, what: &impl Serialize, retain: bool) {
    let text = serde_json::to_vec(what).unwrap_or_default();
    let _ = client.try_publish(topic.to_string(), QoS::AtLeastOnce, retain, text);
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}
