//! All that the broker knows: sessions, retained messages, who is connected.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rumqttc::{LastWill, Publish, QoS};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    hearers::Hearers,
    refused::Refused,
    rights::{Login, Right, hears},
    session::Session,
};

/// How many messages are retained at most, and how many sessions are kept.
const RETAINED: usize = 50_000;
const SESSIONS: usize = 50_000;

/// The broker's memory, shared by its connections. Nothing waits while it is locked.
#[derive(Clone, Default)]
pub(super) struct State {
    inner: Arc<Mutex<Inner>>,
    /// What was not passed on.
    pub(super) refused: Refused,
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<String, Entry>,
    hearers: Hearers,
    retained: BTreeMap<String, Publish>,
    /// Counts connections, so that an old one does not end a new one's session.
    connections: u64,
}

struct Entry {
    session: Session,
    line: Option<Line>,
}

/// A connection of a client.
struct Line {
    number: u64,
    wake: Arc<Notify>,
    end: CancellationToken,
    will: Option<LastWill>,
}

/// A connection's hold on its session.
pub(super) struct Seat {
    pub(super) client: String,
    number: u64,
    /// Rings when there is something to send.
    pub(super) wake: Arc<Notify>,
    /// Is cancelled when the connection must end.
    pub(super) end: CancellationToken,
    /// Whether there was a session before.
    pub(super) present: bool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is in there is whole after every statement that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client has connected: its earlier connection ends. Nothing if there are too many.
    ///
    /// What clients call themselves is told apart by who they are: nobody ends a connection, takes
    /// over a session or is in the way of somebody else by taking a name.
    pub(super) fn sit(
        &self,
        client: &str,
        login: Login,
        clean: bool,
        will: Option<LastWill>,
    ) -> Option<Seat> {
        let client = own_name(&login, client);
        let mut inner = self.lock();
        inner.connections += 1;
        let number = inner.connections;
        if !inner.sessions.contains_key(&client) && inner.sessions.len() >= SESSIONS {
            return None;
        }
        let old = inner.sessions.remove(&client);
        let (mut session, present) = match old {
            Some(entry) => {
                if let Some(line) = entry.line {
                    line.end.cancel();
                }
                if !clean && !entry.session.clean {
                    (entry.session, true)
                } else {
                    inner.forget(&client, &entry.session);
                    (Session::new(login, clean), false)
                }
            }
            None => (Session::new(login, clean), false),
        };
        session.clean = clean;
        session.resume();
        let (wake, end) = (Arc::new(Notify::new()), CancellationToken::new());
        wake.notify_one();
        let line = Line {
            number,
            wake: wake.clone(),
            end: end.clone(),
            will,
        };
        let entry = Entry {
            session,
            line: Some(line),
        };
        inner.sessions.insert(client.clone(), entry);
        Some(Seat {
            client,
            number,
            wake,
            end,
            present,
        })
    }

    /// A connection has ended; in order if the client said so, else its will is done.
    pub(super) fn leave(&self, seat: &Seat, in_order: bool) {
        let mut inner = self.lock();
        let Some(entry) = inner.sessions.get_mut(&seat.client) else {
            return;
        };
        if entry
            .line
            .as_ref()
            .is_none_or(|line| line.number != seat.number)
        {
            return;
        }
        let will = entry.line.take().and_then(|line| line.will);
        let login = entry.session.login.clone();
        entry.session.suspend();
        if entry.session.clean
            && let Some(gone) = inner.sessions.remove(&seat.client)
        {
            inner.forget(&seat.client, &gone.session);
        }
        if let Some(will) = will.filter(|will| !in_order && login.may(Right::Publish, &will.topic))
        {
            let mut message = Publish::from_bytes(will.topic, will.qos, will.message);
            message.retain = will.retain;
            inner.route(message);
        }
    }

    /// Passes a message to everybody who hears its topic.
    pub(super) fn route(&self, message: Publish) {
        self.lock().route(message);
    }

    /// A client hears filters from now on, and first what is retained under them.
    pub(super) fn subscribe(&self, seat: &Seat, filters: &[(String, QoS)]) -> Vec<bool> {
        let mut inner = self.lock();
        let Inner {
            sessions,
            hearers,
            retained,
            ..
        } = &mut *inner;
        let Some(entry) = sessions.get_mut(&seat.client) else {
            return vec![false; filters.len()];
        };
        let mut taken = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            taken.push(entry.session.subscribe(filter, *qos));
            if taken.last() != Some(&true) {
                continue;
            }
            hearers.add(&seat.client, filter);
            // A filter without wildcards is a topic, and found at once.
            let exact = !filter.contains(['+', '#']);
            let found: Vec<&Publish> = match exact {
                true => retained.get(filter).into_iter().collect(),
                false => {
                    let all = retained.values();
                    all.filter(|message| hears(filter, &message.topic))
                        .collect()
                }
            };
            for message in found {
                let mut message = message.clone();
                message.qos = lower(message.qos, *qos);
                message.retain = true;
                entry.session.queue(message);
            }
        }
        seat.wake.notify_one();
        taken
    }

    pub(super) fn unsubscribe(&self, seat: &Seat, filters: &[String]) {
        let mut inner = self.lock();
        let Inner {
            sessions, hearers, ..
        } = &mut *inner;
        if let Some(entry) = sessions.get_mut(&seat.client) {
            for filter in filters {
                entry.session.unsubscribe(filter);
                hearers.remove(&seat.client, filter);
            }
        }
    }

    /// What is to be sent to a client now, up to so many messages.
    pub(super) fn take(&self, seat: &Seat, most: usize) -> Vec<Publish> {
        let mut inner = self.lock();
        let Some(entry) = inner.sessions.get_mut(&seat.client) else {
            return Vec::new();
        };
        if entry
            .line
            .as_ref()
            .is_none_or(|line| line.number != seat.number)
        {
            return Vec::new();
        }
        std::iter::from_fn(|| entry.session.next())
            .take(most)
            .collect()
    }

    pub(super) fn acknowledge(&self, seat: &Seat, id: u16) {
        if let Some(entry) = self.lock().sessions.get_mut(&seat.client) {
            entry.session.acknowledge(id);
        }
        seat.wake.notify_one();
    }

    /// Ends the connections of a login, whose credential is good no more.
    pub(super) fn put_out(&self, login: &Login) {
        for entry in self.lock().sessions.values() {
            if entry.session.login == *login
                && let Some(line) = &entry.line
            {
                line.end.cancel();
            }
        }
    }
}

/// What a client calls itself, as one of those who log in as it does. No robot's id has a slash.
fn own_name(login: &Login, client: &str) -> String {
    match login {
        Login::Bridge => format!("bridge/{client}"),
        Login::Robot(id) => format!("robot/{id}/{client}"),
        Login::Bootstrap => format!("bootstrap/{client}"),
        Login::Anonymous => format!("anonymous/{client}"),
    }
}

impl Inner {
    /// A session is over: nothing is told to it any more.
    fn forget(&mut self, client: &str, session: &Session) {
        for filter in session.filters() {
            self.hearers.remove(client, filter);
        }
    }

    fn route(&mut self, mut message: Publish) {
        if message.retain {
            let mut kept = message.clone();
            (kept.pkid, kept.dup) = (0, false);
            if message.payload.is_empty() {
                self.retained.remove(&message.topic);
            } else if self.retained.len() < RETAINED || self.retained.contains_key(&message.topic) {
                self.retained.insert(message.topic.clone(), kept);
            }
        }
        (message.pkid, message.dup, message.retain) = (0, false, false);
        for client in self.hearers.of(&message.topic) {
            let Some(entry) = self.sessions.get_mut(client) else {
                continue;
            };
            let Some(quality) = entry.session.quality(&message.topic) else {
                continue;
            };
            let qos = lower(message.qos, quality);
            if entry.line.is_none() && qos == QoS::AtMostOnce {
                continue;
            }
            let mut copy = message.clone();
            copy.qos = qos;
            entry.session.queue(copy);
            if let Some(line) = &entry.line {
                line.wake.notify_one();
            }
        }
    }
}

fn lower(one: QoS, other: QoS) -> QoS {
    match one as u8 <= other as u8 {
        true => one,
        false => other,
    }
}
