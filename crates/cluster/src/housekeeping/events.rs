//! Events tell what happened lately; an hour after the last word about it they go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sandlot_store::{Event, Key};
use serde_json::Value;

use super::agenda::Agenda;
use super::chore::{Chore, Plan};
use super::hand::{Action, Target};
use crate::api::{Api, parse};
use crate::object::text;
use crate::record::{Facts, Record};
use crate::request::Propagation;

/// How long an event is kept.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// Removes old events.
pub(crate) struct Events {
    api: Arc<Api>,
    /// When each event was last written.
    written: HashMap<Key, Timestamp>,
}

impl Events {
    pub(crate) fn new(api: Arc<Api>) -> Events {
        Events {
            api,
            written: HashMap::new(),
        }
    }
}

impl Chore for Events {
    type Thing = Key;

    fn begin(&mut self, records: &[Arc<Record>], agenda: &mut Agenda<Key>) {
        self.written.clear();
        let now = self.api.now();
        for record in records.iter().filter(|r| &*r.key.kind == "events") {
            let object = parse(record).unwrap_or_default();
            self.written
                .insert(record.key.clone(), last_word(&object, now));
            agenda.add(record.key.clone());
        }
    }

    fn see(&mut self, event: &Event<Facts>, agenda: &mut Agenda<Key>) {
        let key = &event.record.key;
        if &*key.kind != "events" {
            return;
        }
        if event.deleted {
            self.written.remove(key);
            return;
        }
        // One that is waited for already is looked at when it would have been due.
        if self.written.insert(key.clone(), self.api.now()).is_none() {
            agenda.add(key.clone());
        }
    }

    fn plan(&mut self, key: &Key, now: Timestamp) -> Plan {
        let Some(written) = self.written.get(key) else {
            return Plan::Rest;
        };
        let age = now.duration_since(*written).max(SignedDuration::ZERO);
        let left = KEPT.saturating_sub(age.unsigned_abs());
        if !left.is_zero() {
            return Plan::Wait(left);
        }
        let kinds = self.api.registry.now();
        match (kinds.stored("events"), self.api.store.get(key)) {
            (Some(kind), Some(record)) => Plan::Act(vec![Action::Delete {
                target: Target::new(kind, &record),
                propagation: Propagation::Background,
            }]),
            _ => Plan::Rest,
        }
    }
}

/// When an event was last written, as far as it says so itself; at most now.
fn last_word(event: &Value, now: Timestamp) -> Timestamp {
    const TIMES: [&[&str]; 5] = [
        &["series", "lastObservedTime"],
        &["lastTimestamp"],
        &["deprecatedLastTimestamp"],
        &["eventTime"],
        &["metadata", "creationTimestamp"],
    ];
    let times = TIMES
        .iter()
        .filter_map(|path| text(event, path).parse().ok());
    times.max().map_or(now, |time: Timestamp| time.min(now))
}
