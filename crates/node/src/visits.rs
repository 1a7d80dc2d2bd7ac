//! Who is in a pod beside its own processes: commands run through the API, streams joined.
//!
//! A pod that has the annotation [`VISITORS`] is told how many there are at the moment, and with
//! [`LAST_VISIT`] when one was last seen. As long as somebody is there that time is written anew
//! every few seconds, so that a visit that was cut off together with the node does not seem to last
//! for ever. Pods without the annotation cost nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::Notify;

use crate::node::{Shared, lock};

/// How many are in the pod.
const VISITORS: &str = "sandlot.dev/visitors";
/// When somebody was last in it.
const LAST_VISIT: &str = "sandlot.dev/last-visit";
/// How often a pod is told that somebody is still there.
const RENEW: SignedDuration = SignedDuration::from_secs(10);
/// Who comes back so soon has not been away: one command after another is one visit.
const QUIET: SignedDuration = SignedDuration::from_secs(1);
/// No write takes longer.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// How many pods are told at the same time.
const AT_ONCE: usize = 8;

/// A pod's namespace and name.
type Name = (String, String);

/// Whether a pod wants to know of its visitors.
pub(crate) fn counts(pod: &Pod) -> bool {
    let notes = pod.metadata.annotations.as_ref();
    notes.is_some_and(|notes| notes.contains_key(VISITORS))
}

/// Who is in which pod.
#[derive(Clone, Default)]
pub(crate) struct Visits(Arc<Book>);

#[derive(Default)]
struct Book {
    pods: Mutex<HashMap<Name, Entry>>,
    changed: Notify,
}

/// Somebody is in a pod until this is dropped.
pub(crate) struct Visit {
    book: Arc<Book>,
    pod: Name,
}

/// One pod's visitors, and what the pod knows of them.
#[derive(Clone, Copy, Debug)]
struct Entry {
    inside: u32,
    last: Timestamp,
    told: Option<Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    at: Timestamp,
    /// Whether anybody was there then.
    inside: bool,
}

impl Visits {
    /// Somebody enters a pod.
    pub(crate) fn enter(&self, namespace: &str, pod: &str) -> Visit {
        let name = (namespace.to_owned(), pod.to_owned());
        self.0.change(&name, |inside| inside.saturating_add(1));
        Visit {
            book: self.0.clone(),
            pod: name,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.book
            .change(&self.pod, |inside| inside.saturating_sub(1));
    }
}

impl Book {
    fn change(&self, pod: &Name, count: impl FnOnce(u32) -> u32) {
        let now = Timestamp::now();
        let mut pods = lock(&self.pods);
        let entry = pods.entry(pod.clone()).or_insert(Entry {
            inside: 0,
            last: now,
            told: None,
        });
        entry.inside = count(entry.inside);
        entry.last = now;
        drop(pods);
        self.changed.notify_one();
    }

    /// The pods to be told now, with what; and when the next one is.
    fn due(&self, now: Timestamp) -> (Vec<(Name, Entry)>, Option<Timestamp>) {
        let mut pods = lock(&self.pods);
        pods.retain(|_, entry| entry.due().is_some());
        let (mut due, mut next) = (Vec::new(), None);
        for (name, entry) in pods.iter_mut() {
            let Some(at) = entry.due() else { continue };
            if at > now || due.len() == AT_ONCE {
                next = Some(next.map_or(at, |sooner: Timestamp| sooner.min(at)));
                continue;
            }
            let inside = entry.inside > 0;
            if inside {
                entry.last = now;
            }
            entry.told = Some(Told { at: now, inside });
            due.push((name.clone(), *entry));
        }
        (due, next)
    }
}

impl Entry {
    /// When the pod is to be told next; never, if it knows all there is.
    fn due(&self) -> Option<Timestamp> {
        let is_there = self.inside > 0;
        match self.told {
            Some(told) if is_there && told.inside => Some(told.at + RENEW),
            Some(told) if !is_there => {
                (told.inside || told.at < self.last).then(|| self.last + QUIET)
            }
            // The first one to come: whoever waits for a quiet pod should know soon.
            _ => Some(self.last),
        }
    }
}

/// Tells pods of their visitors until the node stops.
pub(crate) async fn tell(shared: Arc<Shared>) {
    let telling = async {
        let book = &shared.visits.0;
        loop {
            let (due, next) = book.due(Timestamp::now());
            let writes = due
                .into_iter()
                .map(|(pod, entry)| write(&shared, pod, entry));
            futures::future::join_all(writes).await;
            let pause = next.map(|next| next.duration_since(Timestamp::now()));
            let pause = pause.map(|left| Duration::try_from(left).unwrap_or_default());
            tokio::select! {
                () = book.changed.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    };
    shared.stopped().run_until_cancelled(telling).await;
}

async fn write(shared: &Shared, (namespace, name): Name, entry: Entry) {
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
    let patch = json!({ "metadata": { "annotations": {
        VISITORS: entry.inside.to_string(), LAST_VISIT: entry.last.to_string(),
    } } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let written = tokio::time::timeout(LONGEST_WRITE, pods.patch(&name, &params, &patch)).await;
    match written {
        Ok(Ok(_)) => {}
        // A pod that is gone has no use for it; any other hears of it with the next visit.
        Ok(Err(error)) => tracing::debug!(namespace, name, %error, "a pod was not told of a visit"),
        Err(_) => tracing::debug!(
            namespace,
            name,
            "a pod could not be told of a visit in time"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn entry(inside: u32, last: i64, told: Option<(i64, bool)>) -> Entry {
        Entry {
            inside,
            last: at(last),
            told: told.map(|(second, inside)| Told {
                at: at(second),
                inside,
            }),
        }
    }

    #[test]
    fn a_pod_hears_of_the_first_visitor_at_once_and_then_now_and_then() {
        assert_eq!(entry(1, 5, None).due(), Some(at(5)));
        assert_eq!(entry(1, 5, Some((5, true))).due(), Some(at(15)));
        assert_eq!(entry(1, 25, Some((5, false))).due(), Some(at(25)));
    }

    #[test]
    fn a_pod_hears_of_the_last_one_to_go_once_it_is_quiet() {
        assert_eq!(entry(0, 8, Some((5, true))).due(), Some(at(9)));
        assert_eq!(entry(0, 8, Some((9, false))).due(), None);
        // Somebody came and went before anything could be said.
        assert_eq!(entry(0, 8, None).due(), Some(at(8)));
    }

    #[test]
    fn one_command_after_another_is_one_visit() {
        let visits = Visits::default();
        let mut writes = 0;
        for _ in 0..100 {
            let _visit = visits.enter("n", "p");
            writes += visits.0.due(Timestamp::now()).0.len();
        }
        assert_eq!(writes, 1);
    }

    #[test]
    fn pods_with_nothing_to_tell_are_forgotten() {
        let visits = Visits::default();
        drop(visits.enter("n", "p"));
        assert_eq!(visits.0.due(Timestamp::now()).0.len(), 1);
        visits.0.due(Timestamp::now());
        assert!(lock(&visits.0.pods).is_empty());
    }
}
