//! The Endpoints of a service: all of its pods in one object, up to a thousand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::backend::Backend;
use super::service::{Port, Service};
use crate::object::{at, child_mut, copy_field, metadata_mut};
use crate::record::Record;

/// How many addresses the object holds at most.
const MOST: usize = 1000;
/// Says that there are more.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Tells the objects made here from those that people made.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const US: &str = "endpoint-controller";

/// The Endpoints that a service should have.
pub(super) fn endpoints<'a>(
    name: &str,
    service: &Service,
    backends: impl Iterator<Item = &'a Arc<Backend>>,
) -> Value {
    let mut groups: BTreeMap<Vec<Port>, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let counted =
        backends.filter(|backend| !backend.ended && (!backend.terminating || service.impatient));
    let (mut count, mut over) = (0, false);
    for backend in counted {
        let (Some(ip), Some(ports)) = (backend.address, service.ports_of(backend)) else {
            continue;
        };
        if count == MOST {
            over = true;
            break;
        }
        count += 1;
        let mut address = json!({"ip": ip.to_string(), "targetRef": backend.reference()});
        backend.locate(&mut address, name);
        let (ready, unready) = groups.entry(ports).or_default();
        match backend.ready || service.impatient {
            true => ready.push(address),
            false => unready.push(address),
        }
    }
    let mut labels = service.labels();
    labels.insert(MANAGED_BY.into(), US.into());
    let mut object = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "labels": labels},
    });
    if over {
        metadata_mut(&mut object).insert("annotations".into(), json!({OVER_CAPACITY: "truncated"}));
    }
    if !groups.is_empty() {
        object["subsets"] = groups.into_iter().map(subset).collect();
    }
    object
}

fn subset((ports, (ready, unready)): (Vec<Port>, (Vec<Value>, Vec<Value>))) -> Value {
    let mut subset = json!({});
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
        if !addresses.is_empty() {
            subset[field] = addresses.into();
        }
    }
    if !ports.is_empty() {
        subset["ports"] = ports.iter().map(Port::in_endpoints).collect();
    }
    subset
}

/// What an existing object must become, or `None` when it is as it should be.
pub(super) fn replacement(mut existing: Value, desired: &Value) -> Option<Value> {
    let part = |object: &Value, path: &[&str]| at(object, path).cloned().unwrap_or_default();
    let (labels, over) = (
        ["metadata", "labels"],
        ["metadata", "annotations", OVER_CAPACITY],
    );
    let same = part(&existing, &["subsets"]) == part(desired, &["subsets"])
        && part(&existing, &labels) == part(desired, &labels)
        && part(&existing, &over) == part(desired, &over);
    if same {
        return None;
    }
    copy_field(desired, &mut existing, "subsets");
    let metadata = metadata_mut(&mut existing);
    metadata.insert("labels".into(), part(desired, &labels));
    let annotations = child_mut(metadata, "annotations");
    match part(desired, &over) {
        Value::Null => annotations.remove(OVER_CAPACITY),
        over => annotations.insert(OVER_CAPACITY.into(), over),
    };
    Some(existing)
}

/// Whether Endpoints were made here, and so go with their service.
pub(super) fn is_ours(record: &Record) -> bool {
    record.facts.label(MANAGED_BY) == Some(US)
}
