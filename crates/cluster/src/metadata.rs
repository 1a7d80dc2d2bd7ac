//! The rules of metadata: what the server fills in, what may not change.

use jiff::Timestamp;
use sandlot_objects::meta::{self, Bounds, NameRule, generated_name};
use serde_json::Value;

use crate::kinds::Kind;
use crate::object::{self, metadata_mut, seconds};
use crate::request::Request;
use crate::status::{ApiError, Cause};

/// Brings the metadata of a new object into order: its place, uid, time and generation.
pub(crate) fn begin(
    kind: &Kind,
    object: &mut Value,
    namespace: &str,
    now: Timestamp,
) -> Result<(), ApiError> {
    place(kind, object, namespace)?;
    if !object::resource_version(object).is_empty() {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::new(500, crate::status::Reason::Unknown, why));
    }
    let counts = kind.builtin().is_none_or(|row| row.generation);
    let metadata = metadata_mut(object);
    for gone in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "generation",
    ] {
        metadata.remove(gone);
    }
    if metadata
        .get("name")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        let prefix = metadata
            .get("generateName")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !prefix.is_empty() {
            let name = generated_name(prefix, rand::random());
            metadata.insert("name".into(), name.into());
        }
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), seconds(now).into());
    if counts {
        metadata.insert("generation".into(), 1.into());
    }
    Ok(())
}

/// What is wrong with the metadata of an object.
pub(crate) fn refused(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let bounds = Bounds {
        name: name_rule(kind),
        namespaced: kind.namespaced,
        builtin: kind.builtin().is_some(),
    };
    let mut causes = old
        .map(|old| meta::validate_update(old, object))
        .unwrap_or_default();
    causes.extend(meta::validate(object, bounds));
    causes.into_iter().map(Cause::from).collect()
}

/// What names of a kind look like.
fn name_rule(kind: &Kind) -> NameRule {
    let group = kind.builtin().map(|row| row.group);
    match (group, kind.kind.as_str()) {
        (Some(""), "Namespace") => NameRule::Label,
        (Some(""), "Service") => NameRule::ServiceLabel,
        (Some("rbac.authorization.k8s.io"), _) => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

/// Puts an object where the request says it is, or refuses when the object says otherwise.
pub(crate) fn place(kind: &Kind, object: &mut Value, namespace: &str) -> Result<(), ApiError> {
    let own = object::namespace(object);
    if kind.namespaced && !own.is_empty() && own != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let metadata = metadata_mut(object);
    match kind.namespaced {
        true => metadata.insert("namespace".into(), namespace.into()),
        false => metadata.remove("namespace"),
    };
    Ok(())
}

/// Refuses an update whose body is about another object than its path.
pub(crate) fn same_object(kind: &Kind, object: &Value, request: &Request) -> Result<(), ApiError> {
    let (asked, own) = (request.name(), object::name(object));
    if own.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({asked} based on URL) was undeterminable: name must be provided"
        )));
    }
    if own != asked {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({asked})"
        )));
    }
    let (asked, own) = (request.namespace(), object::namespace(object));
    if kind.namespaced && !own.is_empty() && own != asked {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({own}) does not match the namespace on the request ({asked})"
        )));
    }
    Ok(())
}

/// Fields that an update may leave out, and which then stay as they are.
const KEPT_WHEN_ABSENT: [&str; 6] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Carries over what an update does not say, before anything compares old and new.
pub(crate) fn carry_over(object: &mut Value, old: &Value) {
    let old = object::metadata(old);
    let metadata = metadata_mut(object);
    metadata.remove("selfLink");
    for key in KEPT_WHEN_ABSENT.into_iter().chain(["generateName"]) {
        let (said, kept) = (metadata.get(key), old.and_then(|old| old.get(key)));
        if said == kept {
            continue;
        }
        let absent = said.is_none_or(|value| value.is_null() || value == "");
        match kept {
            Some(value) if absent || same_moment(said, value) => {
                metadata.insert(key.into(), value.clone())
            }
            None if absent => metadata.remove(key),
            _ => None,
        };
    }
    // The generation is the server's to count.
    match old.and_then(|old| old.get("generation")) {
        kept if kept == metadata.get("generation") => None,
        Some(value) => metadata.insert("generation".into(), value.clone()),
        None => metadata.remove("generation"),
    };
}

/// Whether two times are one moment, written differently: some clients write `+00:00` for `Z`.
fn same_moment(said: Option<&Value>, kept: &Value) -> bool {
    let moment = |value: &Value| value.as_str()?.parse::<Timestamp>().ok();
    said.and_then(moment)
        .is_some_and(|said| moment(kept) == Some(said))
}

/// Counts one more generation when an update changes what is asked for.
pub(crate) fn count_generation(kind: &Kind, object: &mut Value, old: &Value) {
    let counts = kind.builtin().is_none_or(|row| row.generation);
    if counts && asks_for_something_else(kind, object, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        metadata_mut(object).insert("generation".into(), generation.into());
    }
}

fn asks_for_something_else(kind: &Kind, object: &Value, old: &Value) -> bool {
    let beside: &[&str] = match kind.has("status") {
        true => &["metadata", "status"],
        false => &["metadata"],
    };
    !object::equal_but(object, old, beside)
}
