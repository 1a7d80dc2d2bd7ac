//! The EndpointSlices of a service: its pods by the hundred.
//!
//! A pod stays in the slice that it is in, so that a change of one pod rewrites one slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandlot_store::{Range, Store};
use serde_json::{Value, json};

use super::Served;
use super::backend::Backend;
use super::service::Port;
use crate::object::{at, metadata_mut, text};
use crate::record::{Facts, Record};

/// What the store calls EndpointSlices.
pub(super) const STORED_AS: &str = "discovery.k8s.io/endpointslices";
/// The label that names the service.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";
/// The label that tells slices made here from those that others made.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslice-controller.k8s.io";
/// How many pods a slice holds at most.
const MOST: usize = 100;

/// One thing to do to a service's slices; numbers are places in the list of existing ones.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Create(Value),
    Replace(usize, Value),
    Delete(usize),
}

/// The slices of a service that were made here.
pub(super) fn own(store: &Store<Facts>, namespace: &Arc<str>, service: &str) -> Vec<Arc<Record>> {
    let all = store
        .list(&Range::within(STORED_AS, Arc::clone(namespace)))
        .records;
    let own = all.into_iter().filter(|slice| {
        let facts = &slice.facts;
        facts.label(SERVICE) == Some(service) && facts.label(MANAGED_BY) == Some(US)
    });
    own.collect()
}

/// Pods that can stand in one slice together: of one family, with the same ports.
type Group = (&'static str, Vec<Port>);
/// The endpoints of a group, by the uids of their pods.
type Members = BTreeMap<String, Value>;

/// What must be done to the slices of a service.
pub(super) fn changes(service: &Record, served: &Served, existing: &[Value]) -> Vec<Change> {
    let mut groups = groups(&service.key.name, served);
    if groups.is_empty() {
        // One empty slice says that there is a service and that nobody stands behind it.
        groups.insert(("IPv4", Vec::new()), Members::new());
    }
    let mut free: Vec<usize> = (0..existing.len()).collect();
    let mut changes = Vec::new();
    for ((family, ports), members) in groups {
        let slice = Slice {
            service,
            served,
            family,
            ports: &ports,
        };
        changes.extend(fill(&slice, members, existing, &mut free));
    }
    changes.extend(free.into_iter().map(Change::Delete));
    changes
}

fn groups(name: &str, served: &Served) -> BTreeMap<Group, Members> {
    let mut groups: BTreeMap<Group, Members> = BTreeMap::new();
    for backend in served.backends.values().filter(|backend| !backend.ended) {
        let (Some(address), Some(ports)) = (backend.address, served.service.ports_of(backend))
        else {
            continue;
        };
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let endpoint = endpoint(
            name,
            backend,
            &address.to_string(),
            served.service.impatient,
        );
        let group = groups.entry((family, ports)).or_default();
        group.insert(backend.uid.clone(), endpoint);
    }
    groups
}

fn endpoint(service: &str, backend: &Backend, address: &str, impatient: bool) -> Value {
    let ready = impatient || (backend.ready && !backend.terminating);
    let mut endpoint = json!({
        "addresses": [address], "targetRef": backend.reference(),
        "conditions": {
            "ready": ready, "serving": backend.ready, "terminating": backend.terminating,
        },
    });
    backend.locate(&mut endpoint, service);
    endpoint
}

/// Spreads the members of a group over the slices that it has, and new ones.
fn fill(
    slice: &Slice,
    mut members: Members,
    existing: &[Value],
    free: &mut Vec<usize>,
) -> Vec<Change> {
    let mine = |index: &usize| slice.fits(&existing[*index]);
    let own: Vec<usize> = free.iter().copied().filter(mine).collect();
    free.retain(|index| !own.contains(index));

    // First those who stay where they are, then the others wherever there is room.
    let mut filled: Vec<(usize, Vec<Value>)> = own
        .into_iter()
        .map(|index| (index, staying(&existing[index], &mut members)))
        .collect();
    let mut others = members.into_values();
    for (_, endpoints) in &mut filled {
        let room = MOST.saturating_sub(endpoints.len());
        endpoints.extend(others.by_ref().take(room));
    }
    let mut changes = Vec::new();
    let mut others: Vec<Value> = others.collect();
    while !others.is_empty() || (filled.is_empty() && changes.is_empty()) {
        let rest = others.split_off(others.len().min(MOST));
        changes.push(Change::Create(slice.object(others)));
        others = rest;
    }
    let keep_empty = changes.is_empty() && filled.iter().all(|(_, endpoints)| endpoints.is_empty());
    for (place, (index, endpoints)) in filled.into_iter().enumerate() {
        if endpoints.is_empty() && !(keep_empty && place == 0) {
            changes.push(Change::Delete(index));
        } else if let Some(object) = slice.replacement(&existing[index], endpoints) {
            changes.push(Change::Replace(index, object));
        }
    }
    changes
}

/// The endpoints of a slice whose pods are still members, as they are now.
fn staying(slice: &Value, members: &mut Members) -> Vec<Value> {
    let old = slice.get("endpoints").and_then(Value::as_array);
    let uids = old
        .into_iter()
        .flatten()
        .map(|one| text(one, &["targetRef", "uid"]));
    uids.filter_map(|uid| members.remove(uid)).collect()
}

/// What all slices of a group have in common.
struct Slice<'a> {
    service: &'a Record,
    served: &'a Served,
    family: &'static str,
    ports: &'a [Port],
}

impl Slice<'_> {
    fn ports(&self) -> Value {
        self.ports.iter().map(Port::in_slice).collect()
    }

    /// Whether an existing slice has room for this group and no other.
    fn fits(&self, slice: &Value) -> bool {
        let ports = slice.get("ports").filter(|ports| !ports.is_null());
        slice["addressType"] == self.family
            && ports.cloned().unwrap_or_else(|| json!([])) == self.ports()
    }

    fn labels(&self) -> Value {
        let mut labels = self.served.service.labels();
        labels.insert(SERVICE.into(), (*self.service.key.name).into());
        labels.insert(MANAGED_BY.into(), US.into());
        labels.into()
    }

    fn object(&self, endpoints: Vec<Value>) -> Value {
        let name = &*self.service.key.name;
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "generateName": format!("{name}-"), "labels": self.labels(),
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": name,
                    "uid": self.service.facts.uid, "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "addressType": self.family, "ports": self.ports(), "endpoints": endpoints,
        })
    }

    /// What an existing slice must become, or `None` when it is as it should be.
    fn replacement(&self, existing: &Value, endpoints: Vec<Value>) -> Option<Value> {
        let labels = self.labels();
        let old = existing.get("endpoints").and_then(Value::as_array);
        let same = old.map_or(endpoints.is_empty(), |old| *old == endpoints);
        if same && at(existing, &["metadata", "labels"]) == Some(&labels) {
            return None;
        }
        let mut object = existing.clone();
        object["endpoints"] = endpoints.into();
        metadata_mut(&mut object).insert("labels".into(), labels);
        Some(object)
    }
}

#[cfg(test)]
mod tests;
