//! Whether anybody hears the robots of a namespace: a bridge renews its Lease for as long as it
//! works.
//!
//! When it was renewed counts by this operator's own clock: clocks of different machines are
//! never compared. A Lease that is deleted is renewed no more: if its bridge lives it makes another
//! in a moment, and if the bridge was taken away with it, nobody hears the robots. Only where there
//! never was such a Lease nothing is concluded: a bridge may be there that does not say so.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use sandlot_decide::expiry::later;

use crate::index::Key;

/// How long a Lease is good that does not say.
const LENGTH: Duration = Duration::from_secs(15);

/// The bridges that say that they live, by namespace.
#[derive(Default)]
pub(crate) struct Bridges {
    known: HashMap<Arc<str>, Sign>,
    /// Robots that were thought to be there when the last bridge fell silent.
    pub(crate) unheard: HashSet<Key>,
}

/// The last sign of life.
struct Sign {
    /// The Lease's version, as long as there is one.
    version: Option<String>,
    /// When a namespace without another sign is silent; nothing once that was noticed.
    due: Option<Timestamp>,
}

impl Bridges {
    /// A bridge's Lease is seen.
    pub(crate) fn see(&mut self, lease: &Lease, now: Timestamp) {
        let Some(key) = Key::of(&lease.metadata) else {
            return;
        };
        let version = lease.metadata.resource_version.clone();
        let known = self.known.get(&key.namespace);
        // A list after a broken watch tells what is known already.
        if known.is_some_and(|known| known.version == version) {
            return;
        }
        let seconds = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds);
        let length = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(LENGTH, Duration::from_secs);
        // Twice as long as another bridge would wait: one that takes its place has begun by then.
        let due = Some(later(now, length.saturating_mul(2)));
        self.known
            .insert(key.namespace.clone(), Sign { version, due });
        self.unheard
            .retain(|robot| robot.namespace != key.namespace);
    }

    /// A bridge's Lease is gone: no sign of life, and so its time runs on.
    pub(crate) fn lose(&mut self, namespace: &str) {
        if let Some(sign) = self.known.get_mut(namespace) {
            sign.version = None;
        }
        self.known.retain(|_, sign| sign.matters());
    }

    /// These are all Leases that there are.
    pub(crate) fn only(&mut self, listed: &HashSet<Key>) {
        for (namespace, sign) in &mut self.known {
            if !listed.iter().any(|key| key.namespace == *namespace) {
                sign.version = None;
            }
        }
        self.known.retain(|_, sign| sign.matters());
    }

    /// When the next namespace is silent, if nothing comes.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.known.values().filter_map(|sign| sign.due).min()
    }

    /// The namespaces that have fallen silent; each is told once.
    pub(crate) fn fallen_silent(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        let over = |sign: &&mut Sign| sign.due.is_some_and(|due| due <= now);
        let mut silent = Vec::new();
        for (namespace, sign) in &mut self.known {
            if over(&sign) {
                sign.due = None;
                silent.push(namespace.clone());
            }
        }
        self.known.retain(|_, sign| sign.matters());
        silent
    }
}

impl Sign {
    /// Whether there is a Lease to compare with, or a silence still to be told of.
    fn matters(&self) -> bool {
        self.version.is_some() || self.due.is_some()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use kube::api::ObjectMeta;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease(version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                namespace: Some("fleet".to_owned()),
                name: Some("bridge".to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                lease_duration_seconds: Some(5),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_bridge_that_renews_no_more_is_told_of_once() {
        let mut bridges = Bridges::default();
        assert_eq!(bridges.due(), None, "there never was one");
        bridges.see(&lease("1"), at(0));
        bridges.see(&lease("2"), at(8));
        // Listed once more: no sign of life.
        bridges.see(&lease("2"), at(15));
        assert_eq!(bridges.due(), Some(at(18)));
        assert!(bridges.fallen_silent(at(17)).is_empty());
        assert_eq!(bridges.fallen_silent(at(18)).len(), 1);
        assert!(bridges.fallen_silent(at(19)).is_empty());
    }

    #[test]
    fn a_bridge_whose_lease_is_deleted_has_its_time_to_make_another() {
        let mut bridges = Bridges::default();
        for how in [lost, unlisted] {
            bridges.see(&lease("1"), at(0));
            how(&mut bridges);
            assert_eq!(bridges.due(), Some(at(10)), "its time runs on");
            bridges.see(&lease("2"), at(9));
            assert!(bridges.fallen_silent(at(10)).is_empty(), "it lives");
            how(&mut bridges);
            assert_eq!(bridges.fallen_silent(at(19)).len(), 1, "it was taken away");
            assert!(bridges.known.is_empty(), "nothing is kept of it");
            how(&mut bridges);
            assert_eq!(bridges.due(), None);
        }
    }

    fn lost(bridges: &mut Bridges) {
        bridges.lose("fleet");
    }

    fn unlisted(bridges: &mut Bridges) {
        bridges.only(&HashSet::new());
    }
}
