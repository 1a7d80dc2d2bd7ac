//! Changing what is written in the margin of an object: labels, annotations and owners.
//!
//! Who gives a pod to somebody writes a line or two on it, and somebody waits for that. All but the
//! metadata, which is most of the object, stays the text that it is: it is not read, copied,
//! compared or written anew. Where anybody wants to see more than the metadata, nothing is done
//! here and the change goes the way of all others.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sandlot_objects::patch;
use sandlot_store::Expect;
use serde_json::{Map, Value, value::RawValue};

use super::write::{
    Part, admission_request, check_preconditions, mutated, refuse, same, validated,
};
use crate::admission::{Admission, Operation};
use crate::api::WriteFailure;
use crate::call::Call;
use crate::metadata;
use crate::ownership;
use crate::record::{self, Record, Rest};
use crate::status::ApiError;
use crate::versions::served;

/// The fields of an object's metadata that this is about.
const MARGIN: [&str; 5] = [
    "annotations",
    "labels",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// Carries out a merge patch on a pod's margin. Nothing where it has to go the way of all others.
pub(super) async fn patch(
    call: &mut Call,
    part: Part,
    body: &Value,
) -> Result<Option<Bytes>, ApiError> {
    let plain = part == Part::Main && call.kind.is("", "Pod");
    if !plain || call.request.options.write.dry_run || !is_marginal(body) {
        return Ok(None);
    }
    let warnings = call.warnings.len();
    let done = write_on(call, part, body).await?;
    if done.is_none() {
        call.warnings.truncate(warnings);
    }
    Ok(done)
}

/// Whether a merge patch is about an object's margin alone.
fn is_marginal(patch: &Value) -> bool {
    let only = |object: &Value, keys: &[&str]| {
        let fields = object.as_object();
        fields.is_some_and(|fields| fields.keys().all(|key| keys.contains(&key.as_str())))
    };
    only(patch, &["metadata"]) && only(&patch["metadata"], &MARGIN)
}

async fn write_on(call: &mut Call, part: Part, body: &Value) -> Result<Option<Bytes>, ApiError> {
    let (api, kind) = (Arc::clone(&call.api), Arc::clone(&call.kind));
    let name = call.request.name().to_owned();
    let key = api.key(&kind, call.namespace(), &name);
    let record = api.store.latest(&key).filter(|found| !found.facts.deleting);
    let Some((record, (old, rest))) = record.as_ref().and_then(|it| Some((it, opened(it)?))) else {
        return Ok(None);
    };
    let Ok(mut new) = patch::merge::apply(&old, body) else {
        return Ok(None);
    };
    call.accept_fields(&mut new, Some(&old), Vec::new())?;
    check_preconditions(call, &name, &new, &old)?;
    metadata::carry_over(&mut new, &old);
    let old = Arc::new(old);
    let mut request = admission_request(call, Operation::Update, part, Some(Arc::clone(&old)));
    if api.admission.reads(&request) {
        return Ok(None);
    }
    request.object = Some(new);
    let new = mutated(call, &mut request).await?;
    refuse(call, &name, metadata::refused(&kind, &new, Some(&old)))?;
    request.object = Some(new);
    let new = validated(call, request).await?;
    if same(&new, &old) {
        let bytes = served(&kind, &record.value, record.revision).await?;
        return Ok(Some(bytes));
    }
    let Some(managers) = ownership::changed_in_text(call, part, &new, &old, rest.managers) else {
        return Ok(None);
    };
    call.await_cue().await?;
    let change = record::put_around(&kind.stored_as, new, &rest.under(&managers), &record.facts);
    let expect = Expect::Revision(record.revision);
    match api.write(key, expect, change, call.manner(false)).await {
        Ok(bytes) => Ok(Some(served(&kind, &bytes, u64::MAX).await?)),
        // Somebody was faster; it is done again on what is there now.
        Err(WriteFailure::Raced) => Ok(None),
        Err(WriteFailure::Failed(error)) => Err(error),
    }
}

/// An object that is its margin alone, and the rest of it.
fn opened(record: &Record) -> Option<(Value, Rest<'_>)> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&record.value).ok()?;
    let metadata = fields.remove("metadata")?;
    let mut metadata: BTreeMap<String, &RawValue> = serde_json::from_str(metadata.get()).ok()?;
    let managers = metadata.remove("managedFields")?.get();
    let mut object = Map::new();
    for key in ["apiVersion", "kind"] {
        object.insert(key.to_owned(), read(fields.remove(key)?)?);
    }
    let metadata: Option<Map<String, Value>> = metadata
        .into_iter()
        .map(|(key, text)| Some((key, read(text)?)))
        .collect();
    object.insert("metadata".to_owned(), Value::Object(metadata?));
    Some((Value::Object(object), Rest { managers, fields }))
}

fn read(text: &RawValue) -> Option<Value> {
    serde_json::from_str(text.get()).ok()
}
