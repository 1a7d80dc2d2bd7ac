//! What the broker keeps for one client: what it hears, and what it has not acknowledged.

use std::collections::{BTreeMap, VecDeque};

use rumqttc::{Publish, QoS};

use super::rights::{Login, hears};

/// How many messages wait for a client that is away, or slow; beyond that the oldest go. What a
/// robot must not miss is retained, and told again when it comes.
const QUEUE: usize = 1000;
/// How many bytes they may have together.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// How many messages are on their way to a client at once.
const WINDOW: usize = 64;
/// How many filters a client may have.
const FILTERS: usize = 64;

/// What is kept for a client.
pub(super) struct Session {
    /// Who it is.
    pub(super) login: Login,
    /// Whether it goes with the connection.
    pub(super) clean: bool,
    filters: Vec<(String, QoS)>,
    waiting: VecDeque<Publish>,
    waiting_bytes: usize,
    unacknowledged: BTreeMap<u16, Publish>,
    last_id: u16,
    /// Messages that were let go because there were too many.
    pub(super) dropped: u64,
}

impl Session {
    pub(super) fn new(login: Login, clean: bool) -> Self {
        Self {
            login,
            clean,
            filters: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unacknowledged: BTreeMap::new(),
            last_id: 0,
            dropped: 0,
        }
    }

    /// Hears a filter from now on; false if it hears too much already.
    pub(super) fn subscribe(&mut self, filter: &str, qos: QoS) -> bool {
        self.filters.retain(|(known, _)| known != filter);
        if self.filters.len() >= FILTERS {
            return false;
        }
        self.filters.push((filter.to_owned(), qos));
        true
    }

    pub(super) fn unsubscribe(&mut self, filter: &str) {
        self.filters.retain(|(known, _)| known != filter);
    }

    /// What the client hears.
    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        self.filters.iter().map(|(filter, _)| filter.as_str())
    }

    /// With which quality the client hears a topic, if it does.
    pub(super) fn quality(&self, topic: &str) -> Option<QoS> {
        let matching = self
            .filters
            .iter()
            .filter(|(filter, _)| hears(filter, topic));
        matching.map(|(_, qos)| *qos).max_by_key(|qos| *qos as u8)
    }

    /// Puts a message in line.
    pub(super) fn queue(&mut self, message: Publish) {
        self.waiting_bytes += message.payload.len();
        self.waiting.push_back(message);
        while self.waiting.len() > QUEUE || self.waiting_bytes > QUEUE_BYTES {
            let Some(oldest) = self.waiting.pop_front() else {
                break;
            };
            self.waiting_bytes -= oldest.payload.len();
            self.dropped += 1;
        }
    }

    /// The next message to send, if any may go now.
    pub(super) fn next(&mut self) -> Option<Publish> {
        let asks = self.waiting.front()?.qos != QoS::AtMostOnce;
        if asks && self.unacknowledged.len() >= WINDOW {
            return None;
        }
        let mut message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.payload.len();
        if asks {
            message.pkid = self.fresh_id();
            self.unacknowledged.insert(message.pkid, message.clone());
        }
        Some(message)
    }

    pub(super) fn acknowledge(&mut self, id: u16) {
        self.unacknowledged.remove(&id);
    }

    /// The connection is a new one: what was not acknowledged is sent again, first.
    pub(super) fn resume(&mut self) {
        let again = std::mem::take(&mut self.unacknowledged);
        for (_, mut message) in again.into_iter().rev() {
            message.dup = true;
            self.waiting_bytes += message.payload.len();
            self.waiting.push_front(message);
        }
    }

    /// The connection is gone: what was told without asking for an answer is not kept.
    pub(super) fn suspend(&mut self) {
        self.waiting
            .retain(|message| message.qos != QoS::AtMostOnce);
        self.waiting_bytes = self
            .waiting
            .iter()
            .map(|message| message.payload.len())
            .sum();
    }

    fn fresh_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.unacknowledged.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}
