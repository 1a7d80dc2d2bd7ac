//! What is heard from the cluster: that there is a connection, what became of the registration,
//! what is wanted.

use std::{io, time::Duration};

use sandlot_api::robot::wire::{
    Acknowledged, Desired, LONGEST_MESSAGE, LogRequest, PROTOCOL, PresenceState, Registered,
    Registration, RotatedCredential, Topic,
    upstream::{Dispatch, State},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Agent, PATIENCE, PAUSES, reports::json};
use crate::{
    drivers,
    journal::{Journal, is_safe},
    link::{Heard, Link, LinkError, Login, presence},
};

/// How often the broker may refuse a robot before it doubts its credential: some seconds.
const REFUSALS: u32 = 6;

/// So much is logged of what somebody says in words.
const WORDS: usize = 1024;

impl Agent {
    /// Opens a connection, or registers again over the one there is.
    pub(super) async fn connect(&mut self) -> Result<(), LinkError> {
        if self.connected {
            self.register();
            return Ok(());
        }
        self.due = None;
        let session = self.identity.next_session().await;
        self.session = session.unwrap_or_else(|error| {
            tracing::error!(%error, "the number of the connection cannot be kept");
            self.session + 1
        });
        let token = self.settings.token.as_deref();
        let login = match (self.identity.is_registered(), self.published) {
            (true, _) => Login::Own {
                credential: self.identity.credential(),
                client: self.identity.client(),
                session: self.session,
            },
            (false, true) => Login::Published(token),
            (false, false) => Login::Bootstrap(token),
        };
        self.link = Some(Link::open(&self.settings, &login)?);
        Ok(())
    }

    pub(super) async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Connected => self.is_connected().await,
            Heard::Lost(why) => {
                tracing::info!(why, "the connection is lost; it is made again");
                self.lost();
            }
            Heard::Refused => self.refused().await,
            Heard::Message(topic, payload) => self.read(&topic, &payload).await,
        }
    }

    async fn is_connected(&mut self) {
        tracing::info!(
            broker = self.settings.broker.host,
            reports = self.outbox.depth(),
            "connected"
        );
        self.connected = true;
        self.refusals = 0;
        self.metrics.connections.inc();
        self.alone_since = None;
        self.pause = PAUSES.0;
        if self.identity.is_registered() {
            let online = presence(PresenceState::Online, self.session);
            self.say(&Topic::Presence(self.settings.robot.clone()), online, true);
            self.say_again().await;
        }
        self.outbox.begin();
        self.taken = 0;
        self.send_reports();
        self.register();
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
    async fn refused(&mut self) {
        tracing::warn!("the broker does not let this robot in");
        self.refusals += 1;
        if self.identity.is_registered() && self.refusals < REFUSALS {
            // It may not have read a credential yet that the bridge has taken a moment ago.
            return self.lost();
        }
        self.refusals = 0;
        let fell_back = self.identity.fall_back().await;
        if !matches!(fell_back, Ok(true)) && self.settings.token.is_some() {
            note(self.identity.set_registered(false).await);
        }
        self.lost();
        self.pause = (self.pause * 4).min(PAUSES.1);
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
            drivers: Some(drivers::available(self.settings.engine.as_deref())),
            labels: Some(self.settings.labels.clone()),
        };
        self.told = Some(info.lasting());
        // Where its certificate is its login it is itself from the start, and may say nothing that
        // anybody may; which of the two holds, only the broker knows.
        if own || self.settings.tls.identity.is_some() {
            self.say_json(&Topic::OwnRegister(robot), &registration);
        }
        if !own {
            self.say_json(&Topic::Register, &registration);
        }
        self.due = Some(Instant::now() + PATIENCE);
    }

    async fn read(&mut self, topic: &Topic, payload: &[u8]) {
        if topic.robot() != Some(&self.settings.robot) {
            return;
        }
        if payload.len() > LONGEST_MESSAGE {
            let bytes = payload.len();
            tracing::warn!(%topic, bytes, "a message is too long; it is passed over");
            return;
        }
        match topic {
            Topic::Response(_) | Topic::FirstResponse(_) => {
                if let Some(answer) = understood(payload) {
                    self.registered(answer).await;
                }
            }
            Topic::Desired(_) => {
                if let Some(document) = understood(payload) {
                    self.desired(document).await;
                }
            }
            Topic::Acknowledged(_) => {
                if let Some(told) = understood(payload) {
                    self.acknowledged(told).await;
                }
            }
            Topic::LogRequest(_) => {
                if let Some(request) = understood(payload) {
                    self.show_log(request).await;
                }
            }
            Topic::Dispatch(_) | Topic::FirstDispatch(_) => {
                if let Some(order) = understood(payload) {
                    self.ordered(order).await;
                }
            }
            Topic::State(_) => {
                if let Some(all) = understood(payload) {
                    self.all_ordered(all).await;
                }
            }
            Topic::Words(_) => {
                let text = String::from_utf8_lossy(payload);
                let words: String = text.chars().take(WORDS).collect();
                // As the published agents do: nobody says who wrote them, and they may come twice.
                tracing::info!(words, "somebody says this to the robot");
            }
            _ => {}
        }
    }

    async fn registered(&mut self, answer: Registered) {
        if answer.register_again {
            tracing::info!("the cluster does not know this robot; it registers again");
            self.told = None;
            match self.settings.token.is_some() {
                true => {
                    note(self.identity.set_registered(false).await);
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
        self.due = None;
        // Every bridge of ours says how often to beat; servers of the published protocol do not.
        let Some(seconds) = answer.beat_seconds else {
            return self.registered_as_published();
        };
        if let Some(revision) = answer.credential_revision {
            note(self.identity.learn_revision(revision).await);
        }
        self.beat_every(seconds);
        tracing::info!(pending = answer.pending, "registered");
        self.published = false;
        if !self.identity.is_registered() {
            note(self.identity.set_registered(true).await);
            // From here on with the robot's own credential, and its last will.
            self.pause = PAUSES.0;
            self.lost();
        }
    }

    /// The server knows nothing of credentials and documents: it is served as it knows it.
    fn registered_as_published(&mut self) {
        if self.identity.is_registered() || self.published {
            return;
        }
        tracing::info!("registered with a server of the published protocol");
        self.published = true;
        // From here on with a session that keeps what is said while the robot is away.
        self.pause = PAUSES.0;
        self.lost();
    }

    fn beat_every(&mut self, seconds: u64) {
        let wanted = Duration::from_secs(seconds);
        if (1..=3600).contains(&seconds) && wanted != self.beat.period() {
            self.beat = tokio::time::interval_at(Instant::now() + wanted, wanted);
            self.beat
                .set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
    }

    async fn desired(&mut self, document: Desired) {
        match self.wanted.take(document).await {
            Ok(true) => {
                self.rotate().await;
                self.settle().await;
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "what is wanted cannot be kept; it is not begun"),
        }
    }

    /// A task was ordered, or its end.
    async fn ordered(&mut self, order: Dispatch) {
        let over = over(&self.shop.journal);
        let taken = self.orders.take(order, over).await;
        self.settle_orders(taken).await;
    }

    async fn all_ordered(&mut self, all: State) {
        let over = over(&self.shop.journal);
        let taken = self.orders.take_all(all, over).await;
        self.settle_orders(taken).await;
    }

    async fn settle_orders(&mut self, taken: io::Result<bool>) {
        match taken {
            Ok(true) => self.settle().await,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "an order cannot be kept; it is not begun"),
        }
    }

    async fn rotate(&mut self) {
        let Some(wanted) = self.wanted.document().credential_revision else {
            return;
        };
        match self.identity.rotate(wanted).await {
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

    async fn acknowledged(&mut self, told: Acknowledged) {
        if let Err(error) = self.outbox.acknowledge(&told).await {
            tracing::warn!(%error, "an acknowledgement cannot be kept; reports are sent again");
        }
    }

    async fn show_log(&mut self, request: LogRequest) {
        let run = self.run_of(&request.task).await;
        self.logs.take(request, run);
    }
}

/// Reads a message. An empty one takes back what was retained, and says nothing.
fn understood<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    if payload.is_empty() {
        return None;
    }
    let read = serde_json::from_slice(payload);
    read.inspect_err(
        |error| tracing::warn!(%error, "a message cannot be understood; it is passed over"),
    )
    .ok()
}

/// Whether attempts are over, as the journal knows.
fn over(journal: &Journal) -> impl Fn(&sandlot_api::robot::wire::AttemptKey) -> bool + use<> {
    let journal = journal.clone();
    move |key| {
        let found = journal.find(key);
        !is_safe(key) || found.is_ok_and(|entry| entry.is_some_and(|entry| entry.over))
    }
}

fn note(kept: io::Result<()>) {
    if let Err(error) = kept {
        tracing::error!(%error, "what the robot knows of itself cannot be kept");
    }
}
