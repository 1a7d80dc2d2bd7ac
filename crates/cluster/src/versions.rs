//! An object between the version in which it is stored and the one in which it is asked for.
//!
//! All versions of a kind share one shape, so most objects change nothing but the name of
//! their version, and their bytes need not be read for that.

use bytes::Bytes;
use sandlot_objects::schema;
use serde_json::Value;

use crate::api::parse;
use crate::kinds::Kind;
use crate::object::{as_map, resource_version};
use crate::record::{Record, encode, with_api_version};
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
pub(crate) fn served(kind: &Kind, bytes: &Bytes, revision: u64) -> Bytes {
    let version = kind.api_version();
    if !needs_reading(kind, revision) {
        return with_api_version(bytes, &version);
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut object) => {
            let revision = resource_version(&object).parse().unwrap_or(revision);
            convert(kind, &mut object, revision);
            encode(object, revision)
        }
        Err(_) => bytes.clone(),
    }
}

/// A stored object as the client of a kind would get it.
pub(crate) fn loaded(kind: &Kind, record: &Record) -> Result<Value, ApiError> {
    let mut object = parse(record)?;
    convert(kind, &mut object, record.revision);
    Ok(object)
}

/// Turns an object of a kind into what is stored.
pub(crate) fn to_stored(kind: &Kind, object: &mut Value) {
    if kind.is("events.k8s.io", "Event") {
        let map = as_map(object);
        for (stored, shown) in EVENT_FIELDS {
            if let Some(value) = map.remove(shown) {
                map.insert(stored.to_owned(), value);
            }
        }
    }
    as_map(object).insert("apiVersion".into(), kind.stored_version.as_str().into());
}

fn needs_reading(kind: &Kind, revision: u64) -> bool {
    let older = kind.custom().is_some_and(|custom| revision < custom.since);
    older || kind.is("events.k8s.io", "Event")
}

fn convert(kind: &Kind, object: &mut Value, revision: u64) {
    if let Some(custom) = kind.custom().filter(|custom| revision < custom.since) {
        // Written under an earlier definition: what that one did not know is brought in line.
        schema::prune(&custom.stored, object);
        schema::default(&custom.stored, object);
    }
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
