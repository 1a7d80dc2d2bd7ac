//! The way that every write goes, from an object in hand to an object in the store.
//!
//! What comes from outside is brought into order, defaulted, shown to admission, judged
//! and stored under the condition that nobody else was faster; if somebody was, and the
//! client did not insist on a version, it is done again on what is there now.

use std::sync::Arc;

use bytes::Bytes;
use sandlot_store::Expect;
use serde_json::Value;

use super::deletion;
use crate::admission::{Admission, AdmissionRequest, Operation, Resource};
use crate::api::WriteFailure;
use crate::call::Call;
use crate::kinds::Kind;
use crate::object;
use crate::services::Promise;
use crate::status::{ApiError, Cause, Reason};
use crate::versions::{loaded, served, to_stored};
use crate::{metadata, ownership, schemas, strategy};

/// How often a write is done again because somebody else was faster.
const ATTEMPTS: usize = 16;
/// How often another name is tried when a generated one is taken.
const NAMES_TRIED: usize = 8;

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    /// The status alone.
    Status,
    /// What some other subresource is about; the rest is as it was.
    Sub(&'static str),
}

impl Part {
    /// The subresource, or the empty string.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Part::Main => "",
            Part::Status => "status",
            Part::Sub(name) => name,
        }
    }
}

/// What a change came to.
pub(crate) struct Written {
    /// The object, in the version asked for.
    pub(crate) bytes: Bytes,
}

/// Stores a new object.
pub(crate) async fn insert(call: &mut Call, object: Value) -> Result<Bytes, ApiError> {
    check_place(call)?;
    let generated = object::name(&object).is_empty();
    for _ in 0..NAMES_TRIED {
        match insert_once(call, object.clone()).await {
            Err(error) if generated && error.reason == Reason::AlreadyExists => {}
            done => return done,
        }
    }
    Err(ApiError::new(
        409,
        Reason::AlreadyExists,
        format!(
            "no free name was found for generateName {:?} after {NAMES_TRIED} tries",
            object["metadata"]["generateName"]
        ),
    ))
}

async fn insert_once(call: &mut Call, mut object: Value) -> Result<Bytes, ApiError> {
    let (api, kind) = (Arc::clone(&call.api), Arc::clone(&call.kind));
    let namespace = call.namespace().to_owned();
    metadata::begin(&kind, &mut object, &namespace, api.now())?;
    strategy::begin(&kind, &mut object);
    schemas::default(&kind, &mut object);

    let mut request = admission_request(call, Operation::Create, Part::Main, None);
    request.name = object::name(&object).to_owned();
    request.object = Some(object);
    let mut object = mutated(call, &mut request).await?;
    // What admission made of it is held to the same rules.
    metadata::place(&kind, &mut object, &namespace)?;
    schemas::default(&kind, &mut object);

    let assigned = strategy::assign(&api, &kind, &mut object, None);
    let (_promise, mut causes) = match assigned {
        Ok(promise) => (promise, Vec::new()),
        Err(causes) => (None, causes),
    };
    causes.extend(metadata::refused(&kind, &object, None));
    causes.extend(schemas::validate(&kind, &object, None));
    causes.extend(schemas::validate_new(&kind, &object));
    refuse(call, object::name(&object), causes)?;

    request.object = Some(object);
    let object = validated(call, request).await?;
    let object = ownership::created(call, object);
    let name = object::name(&object).to_owned();
    let object = to_stored(&kind, object).await?;
    let key = api.key(&kind, &namespace, &name);
    let dry_run = call.request.options.write.dry_run;
    if dry_run && api.store.latest(&key).is_some() {
        return Err(ApiError::already_exists(&kind.group, &kind.plural, &name));
    }
    match api
        .put(key, Expect::Absent, object, call.manner(dry_run))
        .await
    {
        Ok(bytes) => {
            strategy::written(&api, &kind).await;
            served(&kind, &bytes, u64::MAX).await
        }
        Err(WriteFailure::Raced) => Err(ApiError::already_exists(&kind.group, &kind.plural, &name)),
        Err(WriteFailure::Failed(error)) => Err(error),
    }
}

/// New objects need a namespace that stays, and a kind that stays.
fn check_place(call: &Call) -> Result<(), ApiError> {
    if call.kind.custom().is_some_and(|custom| custom.terminating) {
        return Err(ApiError::new(
            405,
            Reason::MethodNotAllowed,
            "create not allowed while custom resource definition is terminating",
        ));
    }
    if !call.kind.namespaced {
        return Ok(());
    }
    let name = call.namespace();
    let namespace = call
        .api
        .store
        .latest(&sandlot_store::Key::new("namespaces", "", name));
    match namespace {
        None => Err(ApiError::not_found("", "namespaces", name)),
        Some(record) if record.facts.deleting => {
            let why = format!(
                "unable to create new content in namespace {name} because it is being terminated"
            );
            let object = serde_json::from_slice::<Value>(&call.body).unwrap_or_default();
            Err(ApiError::forbidden(
                &call.kind.group,
                &call.kind.plural,
                object::name(&object),
                &why,
            )
            .because(
                "NamespaceTerminating",
                &format!("namespace {name} is being terminated"),
            ))
        }
        Some(_) => Ok(()),
    }
}

/// Changes an object. `make` gets the object as it is, in the request's version, and returns
/// what it shall be; it may be called several times.
pub(crate) async fn change(
    call: &mut Call,
    part: Part,
    mut make: impl FnMut(&mut Call, &Value) -> Result<Value, ApiError>,
) -> Result<Written, ApiError> {
    let name = call.request.name().to_owned();
    let warnings = call.warnings.len();
    for _ in 0..ATTEMPTS {
        call.warnings.truncate(warnings);
        match change_once(call, part, &name, &mut make).await {
            Err(WriteFailure::Raced) => {}
            Err(WriteFailure::Failed(error)) => return Err(error),
            Ok(written) => return Ok(written),
        }
    }
    Err(call.modified(&name))
}

async fn change_once(
    call: &mut Call,
    part: Part,
    name: &str,
    make: &mut impl FnMut(&mut Call, &Value) -> Result<Value, ApiError>,
) -> Result<Written, WriteFailure> {
    let (api, kind) = (Arc::clone(&call.api), Arc::clone(&call.kind));
    let key = api.key(&kind, call.namespace(), name);
    let record = api.store.latest(&key).ok_or_else(|| call.not_found(name))?;
    let old = loaded(&kind, &record).await?;

    let new = make(call, &old)?;
    check_preconditions(call, name, &new, &old)?;
    let old = Arc::new(old);
    let (new, promise) = judged(call, part, name, new, &old).await?;
    if same(&new, &old) {
        return Ok(Written {
            bytes: served(&kind, &record.value, record.revision).await?,
        });
    }
    let new = to_stored(&kind, new).await?;
    call.await_cue().await?;
    let dry_run = call.request.options.write.dry_run;
    let expect = Expect::Revision(record.revision);
    let bytes = match deletion::is_due(&new) && !dry_run {
        true => api.remove(key, record.revision, new).await?,
        false => api.put(key, expect, new, call.manner(dry_run)).await?,
    };
    drop(promise);
    strategy::written(&api, &kind).await;
    Ok(Written {
        bytes: served(&kind, &bytes, u64::MAX).await?,
    })
}

/// What becomes of a change on its way through defaults, admission and the rules of its
/// kind, and what was promised to it.
async fn judged(
    call: &mut Call,
    part: Part,
    name: &str,
    mut new: Value,
    old: &Arc<Value>,
) -> Result<(Value, Option<Promise>), ApiError> {
    let (api, kind) = (Arc::clone(&call.api), Arc::clone(&call.kind));
    arrange(&kind, part, &mut new, old);
    let mut request = admission_request(call, Operation::Update, part, Some(Arc::clone(old)));
    request.object = Some(new);
    let mut new = mutated(call, &mut request).await?;
    arrange(&kind, part, &mut new, old);
    let assigned = match part {
        Part::Main => strategy::assign(&api, &kind, &mut new, Some(old)),
        _ => Ok(None),
    };
    let (promise, mut causes) = match assigned {
        Ok(promise) => (promise, Vec::new()),
        Err(causes) => (None, causes),
    };
    metadata::count_generation(&kind, &mut new, old);

    causes.extend(metadata::refused(&kind, &new, Some(old)));
    // What only a subresource of a built-in kind may change is not held against what was.
    let special = matches!(part, Part::Sub(_)) && kind.builtin().is_some();
    let before = (!special).then_some(&**old);
    causes.extend(schemas::validate(&kind, &new, before));
    if let Part::Sub(part) = part {
        causes.extend(schemas::validate_part(&kind, part, &new, old));
    }
    refuse(call, name, causes)?;

    request.object = Some(new);
    let new = validated(call, request).await?;
    Ok((ownership::changed(call, part, new, old), promise))
}

/// Brings a changed object into order: what it leaves out, what its path may not change,
/// and what has a default. Admission's changes are held to the same.
fn arrange(kind: &Kind, part: Part, new: &mut Value, old: &Value) {
    metadata::carry_over(new, old);
    strategy::isolate(kind, part, new, old);
    schemas::default_changed(kind, new, old);
}

/// Whether an update changes nothing; then it is not written, and the revision stays.
pub(super) fn same(new: &Value, old: &Value) -> bool {
    object::equal_but(new, old, &["metadata"])
        && object::equal_but(&new["metadata"], &old["metadata"], &["resourceVersion"])
}

/// The client may insist on a version or a uid.
pub(super) fn check_preconditions(
    call: &Call,
    name: &str,
    new: &Value,
    old: &Value,
) -> Result<(), ApiError> {
    let (uid, own) = (object::uid(new), object::uid(old));
    if !uid.is_empty() && uid != own {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(ApiError::conflict(
            &call.kind.group,
            &call.kind.plural,
            name,
            &why,
        ));
    }
    let version = object::resource_version(new);
    if !version.is_empty() && version != object::resource_version(old) {
        return Err(call.modified(name));
    }
    Ok(())
}

/// Refuses an object that breaks the rules of its kind.
pub(crate) fn refuse(call: &Call, name: &str, causes: Vec<Cause>) -> Result<(), ApiError> {
    match causes.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(
            &call.kind.group,
            &call.kind.kind,
            name,
            causes,
        )),
    }
}

/// What admission is told about a write.
pub(crate) fn admission_request(
    call: &Call,
    operation: Operation,
    part: Part,
    old: Option<Arc<Value>>,
) -> AdmissionRequest {
    let kind = &call.kind;
    let options = &call.request.options;
    AdmissionRequest {
        operation,
        resource: Resource {
            group: kind.group.clone(),
            version: kind.version.clone(),
            kind: kind.kind.clone(),
            resource: kind.plural.clone(),
            subresource: part.subresource().to_owned(),
            versions: other_versions(call),
            namespaced: kind.namespaced,
        },
        namespace: match kind.is("", "Namespace") {
            true => call.request.name().to_owned(),
            false => call.namespace().to_owned(),
        },
        name: call.request.name().to_owned(),
        user: call.user.clone(),
        object: None,
        old_object: old,
        converter: kind.converter().cloned(),
        options: serde_json::json!({
            "kind": match operation {
                Operation::Create => "CreateOptions",
                Operation::Delete => "DeleteOptions",
                _ => "UpdateOptions",
            },
            "apiVersion": "meta.k8s.io/v1",
        }),
        dry_run: options.write.dry_run || options.delete.dry_run,
    }
}

/// The other versions in which the objects of the request are served.
fn other_versions(call: &Call) -> Vec<String> {
    let kind = &call.kind;
    let versions = call.kinds.groups().get(&kind.group).map(Vec::as_slice);
    let others = versions.unwrap_or_default().iter().filter(|version| {
        **version != kind.version
            && call
                .kinds
                .find(&kind.group, version, &kind.plural)
                .is_some()
    });
    others.cloned().collect()
}

pub(super) async fn mutated(
    call: &mut Call,
    request: &mut AdmissionRequest,
) -> Result<Value, ApiError> {
    let warnings = call.api.admission.mutate(request).await?;
    call.warnings.extend(warnings);
    Ok(request.object.take().unwrap_or_default())
}

pub(super) async fn validated(
    call: &mut Call,
    mut request: AdmissionRequest,
) -> Result<Value, ApiError> {
    let warnings = call.api.admission.validate(&request).await?;
    call.warnings.extend(warnings);
    Ok(request.object.take().unwrap_or_default())
}

impl From<ApiError> for WriteFailure {
    fn from(error: ApiError) -> WriteFailure {
        WriteFailure::Failed(error)
    }
}
