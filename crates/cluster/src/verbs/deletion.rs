//! What a delete does to an object: decided from the object, the wish and the time.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::kinds::Kind;
use crate::object::{
    self, at, finalizers, is_deleting, metadata_mut, seconds, set_finalizers, text,
};
use crate::request::{DeleteSettings, Propagation};

/// Keeps an owner until what it owns is deleted.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an owner until what it owns is set free.
pub(crate) const ORPHAN: &str = "orphan";

/// What becomes of an object that somebody deletes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It goes at once; this is its last state.
    Gone(Value),
    /// It stays for now, marked as being on its way out.
    Marked(Value),
    /// It is already on its way out, and this delete adds nothing.
    Unchanged,
}

/// Decides what a delete does.
pub(crate) fn fate_of(kind: &Kind, object: &Value, wish: &DeleteSettings, now: Timestamp) -> Fate {
    let mut new = object.clone();
    propagate(&mut new, wish.propagation);
    let grace = grace_of(kind, object, wish);
    let stays = grace > 0 || !finalizers(&new).is_empty() || keeps_itself(kind, object);
    if !stays {
        mark(&mut new, 0, now);
        return Fate::Gone(new);
    }
    if is_deleting(object) {
        let before = at(object, &["metadata", "deletionGracePeriodSeconds"])
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if grace < before {
            mark(&mut new, grace, now);
        }
        return if new == *object {
            Fate::Unchanged
        } else {
            Fate::Marked(new)
        };
    }
    mark(&mut new, grace, now);
    if kind.is("", "Namespace") {
        object::child_mut(object::as_map(&mut new), "status")
            .insert("phase".into(), "Terminating".into());
    }
    Fate::Marked(new)
}

/// Whether an object on its way out has nothing left to wait for.
pub(crate) fn is_due(object: &Value) -> bool {
    let grace = at(object, &["metadata", "deletionGracePeriodSeconds"])
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let contents = at(object, &["spec", "finalizers"])
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    let is_namespace = object["kind"] == "Namespace" && object["apiVersion"] == "v1";
    is_deleting(object)
        && grace == 0
        && finalizers(object).is_empty()
        && !(is_namespace && contents)
}

fn mark(object: &mut Value, grace: i64, now: Timestamp) {
    let until = now
        .checked_add(SignedDuration::from_secs(grace))
        .unwrap_or(now);
    let metadata = metadata_mut(object);
    metadata.insert("deletionTimestamp".into(), seconds(until).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    // A new wish for the object to go is a new generation of the wish.
    if let Some(generation) = metadata
        .get("generation")
        .and_then(Value::as_i64)
        .filter(|generation| *generation > 0)
    {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// Only pods end gracefully, and only those that run somewhere.
fn grace_of(kind: &Kind, object: &Value, wish: &DeleteSettings) -> i64 {
    if !kind.is("", "Pod") {
        return 0;
    }
    let ended = matches!(text(object, &["status", "phase"]), "Failed" | "Succeeded");
    if ended || text(object, &["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let own = at(object, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    wish.grace_period.or(own).unwrap_or(30).max(0)
}

/// Namespaces wait until their contents are gone.
fn keeps_itself(kind: &Kind, object: &Value) -> bool {
    let waits = at(object, &["spec", "finalizers"])
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    kind.is("", "Namespace") && waits
}

/// What happens to the owned is remembered as a finalizer until it has happened.
fn propagate(object: &mut Value, propagation: Option<Propagation>) {
    let wanted = match propagation {
        None => return,
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Orphan) => Some(ORPHAN),
    };
    let mut list: Vec<String> = finalizers(object)
        .into_iter()
        .filter(|one| *one != FOREGROUND && *one != ORPHAN)
        .map(str::to_owned)
        .collect();
    list.extend(wanted.map(str::to_owned));
    set_finalizers(object, &list);
}
