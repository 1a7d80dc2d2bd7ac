//! Removing one object, or many.

use std::sync::Arc;

use http::StatusCode;
use sandlot_store::Expect;
use serde_json::Value;

use super::deletion::{Fate, fate_of};
use super::list::Selected;
use super::write::{Part, admission_request};
use crate::admission::{Admission, Operation};
use crate::answer::{Answer, List};
use crate::api::{WriteFailure, parse};
use crate::call::Call;
use crate::object;
use crate::request::{DeleteSettings, parse_delete_body};
use crate::status::{ApiError, success};
use crate::strategy;
use crate::versions::{loaded, served};

/// How often a delete is done again because somebody else was faster.
const ATTEMPTS: usize = 16;

/// Removes an object, or marks it when others must agree first.
pub(crate) async fn delete(call: &mut Call) -> Result<Answer, ApiError> {
    let wish = wish_of(call)?;
    delete_as(call, &wish).await
}

/// Removes the object of a request as somebody wishes.
pub(crate) async fn delete_as(call: &mut Call, wish: &DeleteSettings) -> Result<Answer, ApiError> {
    let name = call.request.name().to_owned();
    let namespace = call.namespace().to_owned();
    let (object, gone) = delete_one(call, &namespace, &name, wish).await?;
    // Pods and namespaces answer with themselves, as they may go on for a while.
    let shows_itself = call.kind.is("", "Pod") || call.kind.is("", "Namespace");
    if gone && !shows_itself {
        let kind = &call.kind;
        let status = success(&kind.group, &kind.plural, &name, object::uid(&object));
        return Ok(Answer::Value(StatusCode::OK, status));
    }
    Ok(Answer::ok(object.to_string().into()))
}

/// Removes everything that the selectors select.
pub(crate) async fn delete_collection(call: &mut Call) -> Result<Answer, ApiError> {
    let wish = wish_of(call)?;
    let selected = Selected::new(call)?;
    let records = selected.records(call)?;
    let mut items = Vec::with_capacity(records.len());
    for record in records {
        let (namespace, name) = (
            record.key.namespace.to_string(),
            record.key.name.to_string(),
        );
        match delete_one(call, &namespace, &name, &wish).await {
            Ok((object, _)) => items.push(object.to_string().into()),
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let revision = call.api.store.revision();
    Ok(Answer::List(List {
        revision,
        continue_token: String::new(),
        remaining: None,
        items,
    }))
}

/// Query and body together say how to delete.
fn wish_of(call: &Call) -> Result<DeleteSettings, ApiError> {
    let query = &call.request.options.delete;
    if call.body.is_empty() {
        return Ok(query.clone());
    }
    let (body, _) = call.decode()?;
    parse_delete_body(&body, query)
}

/// Deletes one object. Returns its last state, and whether it is gone.
async fn delete_one(
    call: &mut Call,
    namespace: &str,
    name: &str,
    wish: &DeleteSettings,
) -> Result<(Value, bool), ApiError> {
    for _ in 0..ATTEMPTS {
        match delete_once(call, namespace, name, wish).await {
            Err(WriteFailure::Raced) => {}
            Err(WriteFailure::Failed(error)) => return Err(error),
            Ok(done) => return Ok(done),
        }
    }
    Err(call.modified(name))
}

async fn delete_once(
    call: &mut Call,
    namespace: &str,
    name: &str,
    wish: &DeleteSettings,
) -> Result<(Value, bool), WriteFailure> {
    let (api, kind) = (Arc::clone(&call.api), Arc::clone(&call.kind));
    let key = api.key(&kind, namespace, name);
    let record = api.store.latest(&key).ok_or_else(|| call.not_found(name))?;
    let stored = parse(&record)?;
    let old = loaded(&kind, &record).await?;
    check_preconditions(call, name, &old, wish)?;

    let mut request = admission_request(
        call,
        Operation::Delete,
        Part::Main,
        Some(Arc::new(old.clone())),
    );
    name.clone_into(&mut request.name);
    if kind.namespaced {
        namespace.clone_into(&mut request.namespace);
    }
    request.dry_run = wish.dry_run;
    for warnings in [
        api.admission.mutate(&mut request).await?,
        api.admission.validate(&request).await?,
    ] {
        call.warnings.extend(warnings);
    }

    let mut old = stored;
    strategy::before_delete(&kind, &mut old, api.now());
    let (bytes, gone) = match fate_of(&kind, &old, wish, api.now()) {
        Fate::Unchanged => (record.value.clone(), false),
        Fate::Gone(last) if wish.dry_run => (crate::record::encode(last, record.revision), true),
        Fate::Gone(last) => (api.remove(key, record.revision, last).await?, true),
        Fate::Marked(new) => (
            api.put(
                key,
                Expect::Revision(record.revision),
                new,
                call.manner(wish.dry_run),
            )
            .await?,
            false,
        ),
    };
    strategy::written(&api, &kind).await;
    let bytes = served(&kind, &bytes, u64::MAX).await?;
    let object = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    Ok((object, gone))
}

fn check_preconditions(
    call: &Call,
    name: &str,
    old: &Value,
    wish: &DeleteSettings,
) -> Result<(), ApiError> {
    let conflict = |what: &str, wanted: &str, own: &str| {
        let label = if what == "UID" {
            "UID"
        } else {
            "ResourceVersion"
        };
        let why = format!(
            "Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {own}"
        );
        Err(ApiError::conflict(
            &call.kind.group,
            &call.kind.plural,
            name,
            &why,
        ))
    };
    match (
        &wish.preconditions.uid,
        &wish.preconditions.resource_version,
    ) {
        (Some(uid), _) if uid != object::uid(old) => conflict("UID", uid, object::uid(old)),
        (_, Some(version)) if version != object::resource_version(old) => {
            conflict("ResourceVersion", version, object::resource_version(old))
        }
        _ => Ok(()),
    }
}
