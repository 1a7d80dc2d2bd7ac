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
        let left = left(*written, now);
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

/// How much longer an event stays that was last written then.
fn left(written: Timestamp, now: Timestamp) -> Duration {
    let age = now.duration_since(written).max(SignedDuration::ZERO);
    KEPT.saturating_sub(age.unsigned_abs())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, Config};
    use crate::housekeeping::hand::Hand;
    use serde_json::json;

    #[tokio::test]
    async fn an_event_of_which_nobody_spoke_for_an_hour_is_removed() {
        let cluster = Cluster::start(Config::default()).await.expect("starts");
        let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}});
        let path = "/api/v1/namespaces/default/events";
        cluster.ensure(path, &event).await.expect("made");
        let (api, key) = (cluster.api(), Key::new("events", "default", "e"));
        let mut events = Events::new(Arc::clone(&api));
        let mut agenda = Agenda::new();
        events.begin(
            &api.store.list_and_watch_everything().0.records,
            &mut agenda,
        );

        let later = |minutes| Timestamp::now() + SignedDuration::from_mins(minutes);
        assert!(matches!(events.plan(&key, later(59)), Plan::Wait(_)));
        let Plan::Act(actions) = events.plan(&key, later(61)) else {
            panic!("it stays");
        };
        let hand = Hand::new(Arc::clone(&api), "event-expiry-controller");
        hand.act_all(actions).await.expect("done");
        assert!(api.store.get(&key).is_none());
        assert!(matches!(events.plan(&key, later(61)), Plan::Rest));
        cluster.stop().await;
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn an_event_stays_for_an_hour_after_the_last_word_about_it() {
        let event = json!({
            "metadata": {"creationTimestamp": "2026-01-01T10:00:00Z"},
            "lastTimestamp": "2026-01-01T11:00:00Z",
        });
        let now = at("2026-01-01T11:20:00Z");
        let written = last_word(&event, now);
        assert_eq!(written, at("2026-01-01T11:00:00Z"));
        assert_eq!(left(written, now), Duration::from_secs(40 * 60));
        assert_eq!(left(written, at("2026-01-01T12:00:00Z")), Duration::ZERO);
        assert_eq!(left(written, at("2026-01-02T00:00:00Z")), Duration::ZERO);
    }

    #[test]
    fn an_event_of_tomorrow_is_kept_no_longer_than_one_of_now() {
        let now = at("2026-01-01T11:00:00Z");
        let event = json!({"eventTime": "2026-01-02T11:00:00.000000Z"});
        assert_eq!(left(last_word(&event, now), now), KEPT);
        assert_eq!(
            left(at("2026-01-01T12:00:00Z"), now),
            KEPT,
            "clocks go back too"
        );
        assert_eq!(left(last_word(&json!({}), now), now), KEPT);
    }
}
