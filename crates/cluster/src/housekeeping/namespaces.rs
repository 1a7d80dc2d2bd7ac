//! The end of a namespace: its contents are deleted, and when they are gone so is it.
//!
//! What holds it up meanwhile stands in its conditions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sandlot_store::{Event, Key, Range};
use serde_json::{Value, json};

use super::agenda::Agenda;
use super::chore::{Chore, Plan};
use super::hand::{Action, CONTENTS, Target};
use crate::api::{Api, parse};
use crate::kinds::Kind;
use crate::object::{at, finalizers, seconds};
use crate::record::{Facts, Record};
use crate::request::Propagation;

/// How often the conditions follow what is left.
const PAUSE: Duration = Duration::from_millis(500);

/// Sees namespaces to their end.
pub(crate) struct Namespaces {
    api: Arc<Api>,
    /// How many objects each namespace has; those with none have no entry.
    contents: HashMap<Arc<str>, usize>,
    /// The namespaces on their way out, and what last went wrong there.
    ending: HashMap<Arc<str>, Option<String>>,
}

impl Namespaces {
    pub(crate) fn new(api: Arc<Api>) -> Namespaces {
        Namespaces {
            api,
            contents: HashMap::new(),
            ending: HashMap::new(),
        }
    }

    fn count(&mut self, namespace: &Arc<str>, more: bool) {
        let count = self.contents.entry(Arc::clone(namespace)).or_default();
        *count = if more {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if *count == 0 {
            self.contents.remove(namespace);
        }
    }

    /// Everything in a namespace, by kind.
    fn contents_of(&self, namespace: &Arc<str>) -> Vec<(Arc<Kind>, Vec<Arc<Record>>)> {
        let kinds = self.api.registry.now();
        let kinds = kinds.all_stored().filter(|kind| kind.namespaced);
        let mut contents: Vec<_> = kinds
            .map(|kind| {
                let range = Range::within(Arc::clone(&kind.stored_as), Arc::clone(namespace));
                (Arc::clone(kind), self.api.store.list(&range).records)
            })
            .filter(|(_, records)| !records.is_empty())
            .collect();
        contents.sort_by(|(a, _), (b, _)| a.stored_as.cmp(&b.stored_as));
        contents
    }
}

impl Chore for Namespaces {
    /// The name of a namespace.
    type Thing = Arc<str>;

    fn begin(&mut self, records: &[Arc<Record>], agenda: &mut Agenda<Arc<str>>) {
        self.contents.clear();
        self.ending.clear();
        for record in records {
            let key = &record.key;
            if !key.namespace.is_empty() {
                self.count(&key.namespace, true);
            } else if &*key.kind == "namespaces" && record.facts.deleting {
                self.ending.insert(Arc::clone(&key.name), None);
                agenda.add(Arc::clone(&key.name));
            }
        }
    }

    fn see(&mut self, event: &Event<Facts>, agenda: &mut Agenda<Arc<str>>) {
        let (key, facts) = (&event.record.key, &event.record.facts);
        if key.namespace.is_empty() {
            if &*key.kind == "namespaces" && event.deleted {
                self.ending.remove(&key.name);
            } else if &*key.kind == "namespaces" && facts.deleting {
                self.ending.entry(Arc::clone(&key.name)).or_default();
                agenda.add(Arc::clone(&key.name));
            }
            return;
        }
        if event.deleted || event.previous.is_none() {
            self.count(&key.namespace, !event.deleted);
        }
        if !self.ending.contains_key(&key.namespace) {
            return;
        }
        let late_comer = !event.deleted && !facts.deleting;
        match late_comer || !self.contents.contains_key(&key.namespace) {
            true => agenda.add(Arc::clone(&key.namespace)),
            false => agenda.add_later(Arc::clone(&key.namespace), PAUSE),
        }
    }

    fn plan(&mut self, namespace: &Arc<str>, now: Timestamp) -> Plan {
        let key = Key::new("namespaces", "", Arc::clone(namespace));
        let Some(record) = self.api.store.get(&key).filter(|r| r.facts.deleting) else {
            return Plan::Rest;
        };
        let Ok(object) = parse(&record) else {
            return Plan::Rest;
        };
        let waits = at(&object, &["spec", "finalizers"]).and_then(Value::as_array);
        if !waits.is_some_and(|all| all.iter().any(|one| one == CONTENTS)) {
            return Plan::Rest;
        }
        let contents = self.contents_of(namespace);
        if contents.is_empty() {
            return Plan::Act(vec![Action::Finalize {
                namespace: Arc::clone(namespace),
            }]);
        }
        let mut actions = deletions(&contents);
        let trouble = self.ending.get(namespace).and_then(Option::as_deref);
        // As long as there is something to delete, what is left is not yet worth telling.
        if actions.is_empty() || trouble.is_some() {
            actions.extend(self.report(&record, &object, &conditions(&contents, trouble), now));
        }
        match actions.is_empty() {
            true => Plan::Rest,
            false => Plan::Act(actions),
        }
    }

    fn failed(&mut self, namespace: &Arc<str>, why: &str) {
        if let Some(trouble) = self.ending.get_mut(namespace) {
            *trouble = Some(why.to_owned());
        }
    }
}

impl Namespaces {
    /// Writes the conditions, if they are not what they were.
    fn report(
        &self,
        record: &Record,
        object: &Value,
        conditions: &[Condition],
        now: Timestamp,
    ) -> Option<Action> {
        let empty = Vec::new();
        let old = at(object, &["status", "conditions"]).and_then(Value::as_array);
        let old = old.unwrap_or(&empty);
        let new: Vec<Value> = conditions.iter().map(|c| c.object(old, now)).collect();
        if *old == new {
            return None;
        }
        let kinds = self.api.registry.now();
        Some(Action::Patch {
            target: Target::new(kinds.stored("namespaces")?, record),
            subresource: "status",
            patch: json!({"status": {"conditions": new}}),
        })
    }
}

/// Deletes what nobody has deleted yet.
fn deletions(contents: &[(Arc<Kind>, Vec<Arc<Record>>)]) -> Vec<Action> {
    let all = contents
        .iter()
        .flat_map(|(kind, records)| records.iter().map(move |record| (kind, record)));
    all.filter(|(_, record)| !record.facts.deleting)
        .map(|(kind, record)| Action::Delete {
            target: Target::new(kind, record),
            propagation: Propagation::Background,
        })
        .collect()
}

/// One condition of a namespace that ends.
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    /// The condition as it stands in the status. The time changes only when the answer does.
    fn object(&self, old: &[Value], now: Timestamp) -> Value {
        let status = if self.holds { "True" } else { "False" };
        let same = old
            .iter()
            .find(|one| one["type"] == self.kind && one["status"] == status);
        let since = same.map(|one| one["lastTransitionTime"].clone());
        json!({
            "type": self.kind, "status": status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": since.unwrap_or_else(|| seconds(now).into()),
        })
    }
}

/// What holds a namespace up.
fn conditions(contents: &[(Arc<Kind>, Vec<Arc<Record>>)], trouble: Option<&str>) -> [Condition; 5] {
    let condition =
        |kind, holds: Option<(&'static str, String)>, otherwise: (&'static str, &str)| {
            let is = holds.is_some();
            let (reason, message) = holds.unwrap_or_else(|| (otherwise.0, otherwise.1.to_owned()));
            Condition {
                kind,
                holds: is,
                reason,
                message,
            }
        };
    [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            None,
            (
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            (
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            trouble.map(|why| {
                let why = format!("Failed to delete all resource types, 1 remaining: {why}");
                ("ContentDeletionFailed", why)
            }),
            (
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        condition(
            "NamespaceContentRemaining",
            Some(("SomeResourcesRemain", remaining(contents))),
            ("ContentRemoved", "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            waiting_for(contents).map(|list| ("SomeFinalizersRemain", list)),
            (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ),
    ]
}

fn remaining(contents: &[(Arc<Kind>, Vec<Arc<Record>>)]) -> String {
    let each: Vec<String> = contents
        .iter()
        .map(|(kind, records)| {
            let count = records.len();
            format!(
                "{}.{} has {count} resource instances",
                kind.plural, kind.group
            )
        })
        .collect();
    format!("Some resources are remaining: {}", each.join(", "))
}

/// Which finalizers hold contents up, and how many objects each does.
fn waiting_for(contents: &[(Arc<Kind>, Vec<Arc<Record>>)]) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for record in contents.iter().flat_map(|(_, records)| records) {
        let object = parse(record).unwrap_or_default();
        for finalizer in finalizers(&object) {
            *counts.entry(finalizer.to_owned()).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return None;
    }
    let each: Vec<String> = counts
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    Some(format!(
        "Some content in the namespace has finalizers remaining: {}",
        each.join(", ")
    ))
}
