//! Services know their pods: for each service with a selector, an Endpoints object and
//! EndpointSlices say which pods stand behind it and which of them are ready.

mod backend;
mod service;
mod slices;
mod whole;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sandlot_store::{Event, Key, Range};

use self::backend::Backend;
use self::service::Service;
use super::agenda::Agenda;
use super::chore::{Chore, Plan};
use super::hand::{Action, Target};
use crate::api::{Api, parse};
use crate::record::{Facts, Record};
use crate::request::Propagation;

/// How often one service's endpoints are written at most, so that a thousand pods that
/// become ready at once cost a few writes and not a thousand.
const PAUSE: Duration = Duration::from_millis(100);

/// Sees to the endpoints of services.
pub(crate) struct Endpoints {
    api: Arc<Api>,
    /// The services that select pods, by namespace and name.
    services: BTreeMap<(Arc<str>, Arc<str>), Served>,
    /// When the endpoints of services were last written.
    written: HashMap<Key, Timestamp>,
}

/// A service, and the pods it selects.
struct Served {
    service: Service,
    backends: BTreeMap<Arc<str>, Arc<Backend>>,
}

impl Endpoints {
    pub(crate) fn new(api: Arc<Api>) -> Endpoints {
        Endpoints {
            api,
            services: BTreeMap::new(),
            written: HashMap::new(),
        }
    }

    fn see_service(&mut self, record: &Record, deleted: bool) {
        let key = (record.key.namespace.clone(), record.key.name.clone());
        let service = match deleted {
            true => None,
            false => parse(record).ok().and_then(|object| Service::of(&object)),
        };
        let Some(service) = service else {
            self.services.remove(&key);
            return;
        };
        let known = self.services.remove(&key);
        let backends = match known {
            Some(known) if known.service.selector == service.selector => known.backends,
            _ => self.selected(&key.0, &service),
        };
        self.services.insert(key, Served { service, backends });
    }

    /// The pods that a service selects.
    fn selected(
        &self,
        namespace: &Arc<str>,
        service: &Service,
    ) -> BTreeMap<Arc<str>, Arc<Backend>> {
        let pods = self
            .api
            .store
            .list(&Range::within("pods", namespace.clone()));
        let pods = pods
            .records
            .into_iter()
            .filter(|pod| service.selects(&pod.facts));
        pods.filter_map(|pod| {
            let object = parse(&pod).ok()?;
            Some((pod.key.name.clone(), Arc::new(Backend::of(&object))))
        })
        .collect()
    }

    /// Takes note of a pod. Returns the services that are to be looked at.
    fn see_pod(&mut self, record: &Record, deleted: bool) -> Vec<Key> {
        let (namespace, name) = (&record.key.namespace, &record.key.name);
        let first = (namespace.clone(), Arc::from(""));
        let mut backend = None;
        let mut touched = Vec::new();
        for ((own, service_name), served) in self.services.range_mut(first..) {
            if own != namespace {
                break;
            }
            let changed = if !deleted && served.service.selects(&record.facts) {
                let backend = backend.get_or_insert_with(|| {
                    Arc::new(Backend::of(&parse(record).unwrap_or_default()))
                });
                let old = served.backends.insert(name.clone(), Arc::clone(backend));
                old.as_ref() != Some(backend)
            } else {
                served.backends.remove(name).is_some()
            };
            if changed {
                touched.push(Key::new("services", own.clone(), service_name.clone()));
            }
        }
        touched
    }

    /// What is to be done so that a service's endpoints are as they should be.
    fn actions(&self, key: &Key, served: &Served, service: &Record) -> Option<Vec<Action>> {
        let kinds = self.api.registry.now();
        let (namespace, name) = (&key.namespace, &key.name);
        let mut actions = Vec::new();

        let kind = kinds.stored("endpoints")?;
        let whole = Key::new("endpoints", namespace.clone(), name.clone());
        let existing = self.api.store.get(&whole);
        let desired = whole::endpoints(name, &served.service, served.backends.values());
        actions.extend(match existing {
            None => Some(Action::Create {
                kind: Arc::clone(kind),
                namespace: Arc::clone(namespace),
                object: desired,
            }),
            Some(record) => {
                let object = whole::replacement(parse(&record).ok()?, &desired);
                object.map(|object| Action::Replace {
                    target: Target::new(kind, &record),
                    object,
                })
            }
        });

        let kind = kinds.stored(slices::STORED_AS)?;
        let own = slices::own(&self.api.store, namespace, name);
        let existing: Vec<_> = own.iter().filter_map(|record| parse(record).ok()).collect();
        for change in slices::changes(service, served, &existing) {
            actions.push(match change {
                slices::Change::Create(object) => Action::Create {
                    kind: Arc::clone(kind),
                    namespace: Arc::clone(namespace),
                    object,
                },
                slices::Change::Replace(index, object) => Action::Replace {
                    target: Target::new(kind, &own[index]),
                    object,
                },
                slices::Change::Delete(index) => Action::Delete {
                    target: Target::new(kind, &own[index]),
                    propagation: Propagation::Background,
                },
            });
        }
        Some(actions)
    }

    /// Removes the Endpoints of a service that is gone; its slices are collected as garbage.
    fn farewell(&self, key: &Key) -> Plan {
        let whole = Key::new("endpoints", key.namespace.clone(), key.name.clone());
        let kinds = self.api.registry.now();
        match (kinds.stored("endpoints"), self.api.store.get(&whole)) {
            (Some(kind), Some(record)) if whole::is_ours(&record) => {
                Plan::Act(vec![Action::Delete {
                    target: Target::new(kind, &record),
                    propagation: Propagation::Background,
                }])
            }
            _ => Plan::Rest,
        }
    }
}

impl Chore for Endpoints {
    /// The key of a service.
    type Thing = Key;

    fn begin(&mut self, records: &[Arc<Record>], agenda: &mut Agenda<Key>) {
        self.services.clear();
        self.written.clear();
        for record in records {
            match &*record.key.kind {
                "services" => {
                    self.see_service(record, false);
                    agenda.add(record.key.clone());
                }
                // Their service may have gone while nobody looked.
                "endpoints" if whole::is_ours(record) => {
                    let (namespace, name) = (&record.key.namespace, &record.key.name);
                    agenda.add(Key::new("services", namespace.clone(), name.clone()));
                }
                _ => {}
            }
        }
    }

    fn see(&mut self, event: &Event<Facts>, agenda: &mut Agenda<Key>) {
        let record = &event.record;
        let (namespace, name) = (&record.key.namespace, &record.key.name);
        match &*record.key.kind {
            "services" => {
                self.see_service(record, event.deleted);
                agenda.add(record.key.clone());
            }
            "pods" => {
                let touched = self.see_pod(record, event.deleted);
                touched.into_iter().for_each(|service| agenda.add(service));
            }
            "endpoints" => agenda.add(Key::new("services", namespace.clone(), name.clone())),
            slices::STORED_AS => {
                if let Some(service) = record.facts.label(slices::SERVICE) {
                    agenda.add(Key::new("services", namespace.clone(), service));
                }
            }
            _ => {}
        }
    }

    fn plan(&mut self, key: &Key, now: Timestamp) -> Plan {
        let Some(service) = self.api.store.get(key).filter(|r| !r.facts.deleting) else {
            self.written.remove(key);
            return self.farewell(key);
        };
        let Some(served) = self
            .services
            .get(&(key.namespace.clone(), key.name.clone()))
        else {
            return Plan::Rest;
        };
        let since = self
            .written
            .get(key)
            .map(|written| now.duration_since(*written));
        let since = since
            .unwrap_or(SignedDuration::MAX)
            .max(SignedDuration::ZERO);
        let left = PAUSE.saturating_sub(since.unsigned_abs());
        if !left.is_zero() {
            return Plan::Wait(left);
        }
        match self.actions(key, served, &service) {
            Some(actions) if !actions.is_empty() => {
                self.written.insert(key.clone(), now);
                Plan::Act(actions)
            }
            _ => Plan::Rest,
        }
    }
}
