//! CustomResourceDefinitions as objects: which names they get, and when they are served.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use sandlot_store::{Change, Expect, Key, Range};
use serde_json::{Value, json};

use super::custom::kinds_of;
use crate::api::{Api, parse};
use crate::object::{self, as_map, at, child_mut, seconds, text};
use crate::record;
use crate::status::Cause;

/// The kind of the definitions in the store.
pub(crate) const STORED_AS: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// Keeps a definition until its objects are deleted.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Brings a new definition into its first state.
pub(crate) fn begin(definition: &mut Value, _now: Timestamp) {
    complete_names(definition);
    let stored = storage_version(definition);
    as_map(definition).insert(
        "status".into(),
        json!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": [stored]}),
    );
}

/// Brings a changed definition into order: a new storage version joins those that were.
pub(crate) fn renew(new: &mut Value, _old: &Value) {
    complete_names(new);
    let stored = storage_version(new);
    let status = child_mut(as_map(new), "status");
    let versions = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(list) = versions.as_array_mut()
        && !list.iter().any(|one| *one == stored)
    {
        list.push(stored.into());
    }
}

/// Marks a definition that is being deleted, so that its objects go first.
pub(crate) fn before_delete(definition: &mut Value, now: Timestamp) {
    if object::is_deleting(definition) {
        return;
    }
    let mut finalizers: Vec<String> = object::finalizers(definition)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if !finalizers.iter().any(|one| one == CLEANUP) {
        finalizers.push(CLEANUP.to_owned());
    }
    object::set_finalizers(definition, &finalizers);
    let message =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(
        definition,
        "Terminating",
        true,
        "InstanceDeletionPending",
        message,
        now,
    );
}

/// What the rules say against a definition.
pub(crate) fn refused(_api: &Api, definition: &Value) -> Vec<Cause> {
    let wanted = format!(
        "{}.{}",
        text(definition, &["spec", "names", "plural"]),
        text(definition, &["spec", "group"])
    );
    match object::name(definition) == wanted {
        true => Vec::new(),
        false => vec![Cause::invalid(
            "metadata.name",
            &Value::from(object::name(definition)),
            "must be spec.names.plural+\".\"+spec.group",
        )],
    }
}

fn complete_names(definition: &mut Value) {
    let kind = text(definition, &["spec", "names", "kind"]).to_owned();
    let spec = child_mut(as_map(definition), "spec");
    spec.entry("conversion")
        .or_insert_with(|| json!({"strategy": "None"}));
    let names = child_mut(spec, "names");
    names
        .entry("singular")
        .or_insert_with(|| kind.to_lowercase().into());
    names
        .entry("listKind")
        .or_insert_with(|| format!("{kind}List").into());
}

fn storage_version(definition: &Value) -> String {
    let versions = at(definition, &["spec", "versions"]).and_then(Value::as_array);
    let stored = versions
        .into_iter()
        .flatten()
        .find(|version| version["storage"] == true);
    stored
        .map_or("", |version| text(version, &["name"]))
        .to_owned()
}

/// Brings the names of all definitions and the kinds that are served in line with what is stored.
pub(crate) async fn settle(api: &Api) {
    let _one_at_a_time = api.settling.lock().await;
    loop {
        let listing = api.store.list(&Range::all(STORED_AS));
        let mut definitions: Vec<(Arc<record::Record>, Value)> = listing
            .records
            .into_iter()
            .filter_map(|record| Some((Arc::clone(&record), parse(&record).ok()?)))
            .collect();
        // Who came first has its names.
        definitions.sort_by_key(|(record, definition)| {
            (
                !holds_names(definition),
                text(definition, &["metadata", "creationTimestamp"]).to_owned(),
                record.key.name.clone(),
            )
        });
        let mut taken = BTreeSet::new();
        let mut raced = false;
        for (record, definition) in &mut definitions {
            let mut new = definition.clone();
            judge_names(&mut new, &mut taken, api.now());
            if new == *definition {
                continue;
            }
            let change = Change::Put(record::render(new.clone()));
            let key = Key::clone(&record.key);
            raced |= api
                .store
                .write(key, Expect::Revision(record.revision), change)
                .await
                .is_err();
            *definition = new;
        }
        if !raced || api.stop.is_cancelled() {
            let kinds = definitions
                .iter()
                .flat_map(|(_, definition)| kinds_of(definition))
                .collect();
            api.registry.replace_custom(kinds);
            return;
        }
    }
}

fn holds_names(definition: &Value) -> bool {
    !text(definition, &["status", "acceptedNames", "plural"]).is_empty()
}

/// Gives a definition its names, unless somebody else of the group has them.
fn judge_names(definition: &mut Value, taken: &mut BTreeSet<(String, String)>, now: Timestamp) {
    let group = text(definition, &["spec", "group"]).to_owned();
    let names = at(definition, &["spec", "names"])
        .cloned()
        .unwrap_or_default();
    let mut wanted: Vec<(&str, String)> = vec![
        ("PluralConflict", text(&names, &["plural"]).to_owned()),
        ("SingularConflict", text(&names, &["singular"]).to_owned()),
    ];
    let short_names = names
        .get("shortNames")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    wanted.extend(
        short_names
            .filter_map(Value::as_str)
            .map(|name| ("ShortNamesConflict", name.to_owned())),
    );
    wanted.push(("KindConflict", text(&names, &["kind"]).to_owned()));
    wanted.push(("ListKindConflict", text(&names, &["listKind"]).to_owned()));

    let conflict = wanted
        .iter()
        .find(|(_, name)| taken.contains(&(group.clone(), name.clone())));
    match conflict {
        Some((reason, name)) => {
            let message = format!("{name:?} is already in use");
            set_condition(definition, "NamesAccepted", false, reason, &message, now);
            if !is_true(definition, "Established") {
                set_condition(
                    definition,
                    "Established",
                    false,
                    "NotAccepted",
                    "not all names are accepted",
                    now,
                );
            }
        }
        None => {
            child_mut(as_map(definition), "status").insert("acceptedNames".into(), names.clone());
            set_condition(
                definition,
                "NamesAccepted",
                true,
                "NoConflicts",
                "no conflicts found",
                now,
            );
            if !is_true(definition, "Established") {
                let message = "the initial names have been accepted";
                set_condition(
                    definition,
                    "Established",
                    true,
                    "InitialNamesAccepted",
                    message,
                    now,
                );
            }
        }
    }
    let accepted = at(definition, &["status", "acceptedNames"])
        .cloned()
        .unwrap_or_default();
    let short_names = accepted
        .get("shortNames")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let own = ["plural", "singular", "kind", "listKind"].map(|key| text(&accepted, &[key]));
    for name in own
        .into_iter()
        .chain(short_names.filter_map(Value::as_str))
        .filter(|name| !name.is_empty())
    {
        taken.insert((group.clone(), name.to_owned()));
    }
}

fn is_true(definition: &Value, kind: &str) -> bool {
    let conditions = at(definition, &["status", "conditions"]).and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == kind && one["status"] == "True")
}

fn set_condition(
    definition: &mut Value,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let status = child_mut(as_map(definition), "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else {
        return;
    };
    let word = if holds { "True" } else { "False" };
    let before = list.iter().position(|one| one["type"] == kind);
    let since = before
        .map(|at| &list[at])
        .filter(|one| one["status"] == word)
        .and_then(|one| one["lastTransitionTime"].as_str().map(str::to_owned))
        .unwrap_or_else(|| seconds(now));
    let condition = json!({"type": kind, "status": word, "lastTransitionTime": since, "reason": reason, "message": message});
    match before {
        Some(at) => list[at] = condition,
        None => list.push(condition),
    }
}
