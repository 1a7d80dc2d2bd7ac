//! What becomes of an object, given its owners and what it owns.

use serde_json::Value;
use uuid::Uuid;

use super::graph::{Graph, uid_of};
use crate::object::{at, text};
use crate::record::Record;
use crate::request::Propagation;

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays, without these owners.
    Free(Vec<String>),
    /// It no longer makes its owners wait: it and they wait for each other.
    Unblock,
    /// It goes.
    Delete(Propagation),
    /// What it waited for has happened.
    Finish(&'static str),
}

/// What a reference says of an owner's kind: whether such objects live in namespaces, and
/// what the store calls them. `None` when there is no such kind.
pub(super) type Resolve<'a> = &'a dyn Fn(&str, &str) -> Option<(bool, String)>;

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It lives, or nobody can tell: what it owns stays.
    Solid,
    /// It is gone.
    Absent,
    /// It is on its way out and waits for what it owns to go first.
    Waiting,
    /// It is on its way out and sets free what it owns.
    Freeing,
}

/// Decides what becomes of an object, whose JSON is `object`.
pub(super) fn verdict(graph: &Graph, record: &Record, object: &Value, resolve: Resolve) -> Verdict {
    let Some(uid) = uid_of(record) else {
        return Verdict::Keep;
    };
    let empty = Vec::new();
    let references = at(object, &["metadata", "ownerReferences"])
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    let standings: Vec<(&str, Standing)> = references
        .iter()
        .map(|reference| {
            let standing = standing(graph, record, uid, reference, resolve);
            (text(reference, &["uid"]), standing)
        })
        .collect();
    let uids = |wanted: &[Standing]| -> Vec<String> {
        let found = standings.iter().filter(|(_, s)| wanted.contains(s));
        found.map(|(uid, _)| (*uid).to_owned()).collect()
    };

    let freeing = uids(&[Standing::Freeing]);
    if !freeing.is_empty() {
        return Verdict::Free(freeing);
    }
    if record.facts.deleting {
        return finish(graph, record, uid);
    }
    if standings.is_empty() {
        return Verdict::Keep;
    }
    if standings.iter().any(|(_, s)| *s == Standing::Solid) {
        let lost = uids(&[Standing::Absent, Standing::Waiting]);
        return match lost.is_empty() {
            true => Verdict::Keep,
            false => Verdict::Free(lost),
        };
    }
    let owner_waits = standings.iter().any(|(_, s)| *s == Standing::Waiting);
    if owner_waits && graph.owned_by(uid).next().is_some() {
        return delete_before_owner(graph, record, uid);
    }
    Verdict::Delete(match (record.facts.orphan, record.facts.foreground) {
        (true, _) => Propagation::Orphan,
        (_, true) => Propagation::Foreground,
        _ => Propagation::Background,
    })
}

/// Whether what an object on its way out waits for has happened.
fn finish(graph: &Graph, record: &Record, uid: Uuid) -> Verdict {
    let own = |owner: &&crate::record::Owner| owner.uid == record.facts.uid;
    let mut owned = graph.owned_by(uid);
    if record.facts.orphan && owned.next().is_none() {
        return Verdict::Finish(crate::verbs::ORPHAN);
    }
    let mut owned = graph.owned_by(uid);
    let blocked = owned.any(|owned| {
        let reference = owned.facts.owners.iter().find(own);
        reference.is_some_and(|owner| owner.blocks)
    });
    match record.facts.foreground && !record.facts.orphan && !blocked {
        true => Verdict::Finish(crate::verbs::FOREGROUND),
        false => Verdict::Keep,
    }
}

/// Its owner waits for it, and it owns something itself: that goes first, unless that waits
/// for what it owns too, which may be this object again.
fn delete_before_owner(graph: &Graph, record: &Record, uid: Uuid) -> Verdict {
    let circle = graph
        .owned_by(uid)
        .any(|owned| owned.facts.deleting && owned.facts.foreground);
    let blocks = record.facts.owners.iter().any(|owner| owner.blocks);
    match circle && blocks {
        true => Verdict::Unblock,
        false => Verdict::Delete(Propagation::Foreground),
    }
}

fn standing(
    graph: &Graph,
    record: &Record,
    uid: Uuid,
    reference: &Value,
    resolve: Resolve,
) -> Standing {
    let named = text(reference, &["uid"]);
    let owner_uid = Uuid::try_parse(named).ok();
    let kind = resolve(text(reference, &["apiVersion"]), text(reference, &["kind"]));
    let owner = owner_uid.and_then(|owner| graph.get(owner));
    let (namespaced, stored_as) = match (kind, owner) {
        (Some(kind), _) => kind,
        // Nobody knows such a kind any more, but its objects were seen to go.
        (None, None) if owner_uid.is_some_and(|owner| graph.was_bereft(uid, owner)) => {
            return Standing::Absent;
        }
        (None, _) => return Standing::Solid,
    };
    if namespaced && record.key.namespace.is_empty() {
        // An owner in a namespace cannot be found for an object in none.
        return Standing::Solid;
    }
    match owner {
        Some(owner) if *owner.key.kind == *stored_as && names(record, owner, reference) => {
            match (
                owner.facts.deleting,
                owner.facts.orphan,
                owner.facts.foreground,
            ) {
                (true, true, _) => Standing::Freeing,
                (true, false, true) => Standing::Waiting,
                _ => Standing::Solid,
            }
        }
        // An object of that uid is there, but elsewhere: the reference leads nowhere.
        _ => Standing::Absent,
    }
}

/// Whether a reference of an object leads to this owner.
fn names(record: &Record, owner: &Record, reference: &Value) -> bool {
    let near = owner.key.namespace.is_empty() || owner.key.namespace == record.key.namespace;
    near && *owner.key.name == *text(reference, &["name"])
}
