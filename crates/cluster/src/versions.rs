//! An object between the version in which it is stored and the one in which it is asked for.
//!
//! Unless a webhook converts them, all versions of a kind share one shape: most objects
//! change nothing but the name of their version, and their bytes need not be read for that.

use bytes::Bytes;
use sandlot_objects::schema;
use serde_json::Value;

use crate::api::parse;
use crate::kinds::Kind;
use crate::object::{as_map, resource_version};
use crate::record::{Record, encode, is_of_version, with_api_version};
use crate::status::ApiError;

/// The fields of an event, as the core group and as `events.k8s.io` call them.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Stored bytes as the client of a kind gets them. `revision` is that of the write that made them.
pub(crate) async fn served(kind: &Kind, bytes: &Bytes, revision: u64) -> Result<Bytes, ApiError> {
    if kind.converter().is_none() {
        return Ok(renamed(kind, bytes, revision));
    }
    let mut all = all_served(kind, [(bytes, revision)]).await?;
    all.pop()
        .ok_or_else(|| ApiError::internal("an object was lost on its way"))
}

/// The same for many at once, in their order.
pub(crate) async fn all_served(
    kind: &Kind,
    stored: impl IntoIterator<Item = (&Bytes, u64)>,
) -> Result<Vec<Bytes>, ApiError> {
    let stored = stored.into_iter();
    let Some(converter) = kind.converter() else {
        return Ok(stored
            .map(|(bytes, revision)| renamed(kind, bytes, revision))
            .collect());
    };
    let version = kind.api_version();
    let mut all = Vec::new();
    let (mut places, mut foreign) = (Vec::new(), Vec::new());
    for (bytes, revision) in stored {
        if is_of_version(bytes, &version) && !needs_reading(kind, revision) {
            all.push(bytes.clone());
            continue;
        }
        let mut object = serde_json::from_slice(bytes).map_err(ApiError::internal)?;
        catch_up(kind, &mut object, revision);
        places.push(all.len());
        foreign.push(object);
        all.push(Bytes::new());
    }
    let converted = converter.convert(foreign, &version).await?;
    for (place, mut object) in places.into_iter().zip(converted) {
        complete(kind, &mut object);
        let revision = resource_version(&object).parse().unwrap_or_default();
        all[place] = encode(object, revision);
    }
    Ok(all)
}

/// A stored object as the client of a kind would get it.
pub(crate) async fn loaded(kind: &Kind, record: &Record) -> Result<Value, ApiError> {
    let mut object = parse(record)?;
    catch_up(kind, &mut object, record.revision);
    let Some(converter) = kind.converter() else {
        rename(kind, &mut object);
        return Ok(object);
    };
    let mut object = converter.convert_one(object, &kind.api_version()).await?;
    complete(kind, &mut object);
    Ok(object)
}

/// Turns an object of a kind into what is stored.
pub(crate) async fn to_stored(kind: &Kind, mut object: Value) -> Result<Value, ApiError> {
    if let Some(converter) = kind.converter() {
        return converter.convert_one(object, &kind.stored_version).await;
    }
    if kind.is("events.k8s.io", "Event") {
        let map = as_map(&mut object);
        for (stored, shown) in EVENT_FIELDS {
            if let Some(value) = map.remove(shown) {
                map.insert(stored.to_owned(), value);
            }
        }
    }
    as_map(&mut object).insert("apiVersion".into(), kind.stored_version.as_str().into());
    Ok(object)
}

fn needs_reading(kind: &Kind, revision: u64) -> bool {
    let older = kind.custom().is_some_and(|custom| revision < custom.since);
    older || kind.is("events.k8s.io", "Event")
}

/// The same bytes under the name of another version that shares the shape.
fn renamed(kind: &Kind, bytes: &Bytes, revision: u64) -> Bytes {
    if !needs_reading(kind, revision) {
        return with_api_version(bytes, &kind.api_version());
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut object) => {
            let revision = resource_version(&object).parse().unwrap_or(revision);
            catch_up(kind, &mut object, revision);
            rename(kind, &mut object);
            encode(object, revision)
        }
        Err(_) => bytes.clone(),
    }
}

/// What was written under an earlier definition is brought in line with the present one, as
/// far as it is of the version that is stored now.
fn catch_up(kind: &Kind, object: &mut Value, revision: u64) {
    let earlier = kind.custom().filter(|custom| revision < custom.since);
    let Some(custom) = earlier else { return };
    if custom.converter.is_none() || object["apiVersion"] == kind.stored_version.as_str() {
        schema::prune(&custom.stored, object);
        schema::default(&custom.stored, object);
    }
}

/// A converted object is held to the shape of its new version.
fn complete(kind: &Kind, object: &mut Value) {
    if let Some(schema) = &kind.schema {
        schema::prune(schema, object);
        schema::default(schema, object);
    }
}

fn rename(kind: &Kind, object: &mut Value) {
    if kind.is("events.k8s.io", "Event") {
        let map = as_map(object);
        for (stored, shown) in EVENT_FIELDS {
            if let Some(value) = map.remove(stored) {
                map.insert(shown.to_owned(), value);
            }
        }
    }
    as_map(object).insert("apiVersion".into(), kind.api_version().into());
}
