//! Garbage collection: what is owned goes with its owners.
//!
//! In the background when the last owner is gone; in the foreground while the owner waits;
//! or the owner sets it free before it goes. Each step follows from the graph alone, so it
//! does not matter when a crash comes or in which order things happen.

mod graph;
mod verdict;

use std::sync::Arc;

use jiff::Timestamp;
use sandlot_store::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use self::graph::{Graph, uid_of};
use self::verdict::{Verdict, verdict};
use super::agenda::Agenda;
use super::chore::{Chore, Plan};
use super::hand::{Action, Target};
use crate::api::{Api, parse};
use crate::kinds::Kinds;
use crate::object::{at, finalizers, text};
use crate::record::{Facts, Record};

/// The collector.
pub(crate) struct Garbage {
    api: Arc<Api>,
    graph: Graph,
}

impl Garbage {
    pub(crate) fn new(api: Arc<Api>) -> Garbage {
        Garbage {
            api,
            graph: Graph::default(),
        }
    }
}

impl Chore for Garbage {
    type Thing = Uuid;

    fn begin(&mut self, records: &[Arc<Record>], agenda: &mut Agenda<Uuid>) {
        self.graph = Graph::default();
        let mut touched = Vec::new();
        for record in records {
            touched.extend(self.graph.put(Arc::clone(record)));
        }
        // Only now is every owner known.
        touched.into_iter().for_each(|uid| agenda.add(uid));
    }

    fn see(&mut self, event: &Event<Facts>, agenda: &mut Agenda<Uuid>) {
        let touched = match (event.deleted, uid_of(&event.record)) {
            (true, Some(uid)) => self.graph.remove(uid),
            (true, None) => Vec::new(),
            (false, _) => self.graph.put(Arc::clone(&event.record)),
        };
        touched.into_iter().for_each(|uid| agenda.add(uid));
    }

    fn plan(&mut self, uid: &Uuid, _: Timestamp) -> Plan {
        let Some(record) = self.graph.get(*uid) else {
            return Plan::Rest;
        };
        let kinds = self.api.registry.now();
        let (Some(kind), Ok(object)) = (kinds.stored(&record.key.kind), parse(record)) else {
            return Plan::Rest;
        };
        let resolve = |version: &str, kind: &str| resolve(&kinds, version, kind);
        let target = Target::new(kind, record);
        let metadata = match verdict(&self.graph, record, &object, &resolve) {
            Verdict::Keep => return Plan::Rest,
            Verdict::Delete(propagation) => {
                return Plan::Act(vec![Action::Delete {
                    target,
                    propagation,
                }]);
            }
            Verdict::Free(owners) => json!({"ownerReferences": without(&object, &owners)}),
            Verdict::Unblock => json!({"ownerReferences": unblocked(&object)}),
            Verdict::Finish(done) => {
                let mut left = finalizers(&object);
                left.retain(|finalizer| *finalizer != done);
                json!({"finalizers": left})
            }
        };
        Plan::Act(vec![Action::Patch {
            target,
            subresource: "",
            patch: json!({"metadata": metadata}),
        }])
    }
}

/// What a reference says of a kind: whether its objects live in namespaces, and what the store
/// calls them.
fn resolve(kinds: &Kinds, api_version: &str, kind: &str) -> Option<(bool, String)> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let found = kinds
        .all()
        .find(|known| known.kind == kind && known.group == group && known.is_stored())?;
    Some((found.namespaced, found.stored_as.to_string()))
}

fn references(object: &Value) -> impl Iterator<Item = &Value> {
    let list = at(object, &["metadata", "ownerReferences"]).and_then(Value::as_array);
    list.into_iter().flatten()
}

/// The owner references without some; `null` removes the field.
fn without(object: &Value, owners: &[String]) -> Value {
    let left: Vec<&Value> = references(object)
        .filter(|reference| !owners.iter().any(|uid| uid == text(reference, &["uid"])))
        .collect();
    match left.is_empty() {
        true => Value::Null,
        false => json!(left),
    }
}

/// The owner references, none of which makes its owner wait.
fn unblocked(object: &Value) -> Value {
    let mut all: Vec<Value> = references(object).cloned().collect();
    for reference in &mut all {
        reference["blockOwnerDeletion"] = false.into();
    }
    all.into()
}
