//! CustomResourceDefinitions as objects: which names they get, and when they are served.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use sandlot_objects::crd::{self, Names, Taken};
use sandlot_store::{Expect, Range};
use serde_json::{Value, json};

use crate::api::{Api, parse};
use crate::object::{self, as_map, child_mut, seconds, text};
use crate::record::{self, Record};

/// The kind of the definitions in the store.
pub(crate) const STORED_AS: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// Keeps a definition until its objects are deleted.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Brings a new definition into its first state.
pub(crate) fn begin(definition: &mut Value) {
    as_map(definition).insert(
        "status".into(),
        json!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""}}),
    );
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

/// Brings the names of all definitions and the kinds that are served in line with what is stored.
pub(crate) async fn settle(api: &Api) {
    let _one_at_a_time = api.settling.lock().await;
    while !api.stop.is_cancelled() {
        let listing = api.store.list(&Range::all(STORED_AS));
        let Some(definitions) = with_names(api, listing.records).await else {
            // Somebody changed a definition meanwhile: look again.
            continue;
        };
        api.registry.replace_custom(&definitions);
        return;
    }
}

/// Gives the definitions their names, first come, first served.
async fn with_names(api: &Api, records: Vec<Arc<Record>>) -> Option<Vec<(Arc<Record>, Value)>> {
    let mut definitions: Vec<(Arc<Record>, Value)> = records
        .into_iter()
        .filter_map(|record| Some((Arc::clone(&record), parse(&record).ok()?)))
        .collect();
    definitions.sort_by_cached_key(|(record, definition)| {
        let holds = !text(definition, &["status", "acceptedNames", "plural"]).is_empty();
        let since = text(definition, &["metadata", "creationTimestamp"]).to_owned();
        (!holds, since, Arc::clone(&record.key.name))
    });
    let mut taken: HashMap<String, Taken> = HashMap::new();
    let now = seconds(api.now());
    for (record, definition) in &mut definitions {
        let of_group = taken
            .entry(text(definition, &["spec", "group"]).to_owned())
            .or_default();
        let status = crd::status(definition, of_group, &now);
        if let Ok(names) = Names::parse(&status["acceptedNames"]) {
            of_group.add(&names);
        }
        if status != definition["status"] {
            definition["status"] = status;
            let change = record::put(STORED_AS, definition.clone());
            let expect = Expect::Revision(record.revision);
            *record = api
                .store
                .write(record.key.clone(), expect, change)
                .await
                .ok()?;
        }
    }
    Some(definitions)
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
