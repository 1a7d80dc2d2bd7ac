//! Bodies as clients send them in protobuf. Those named `kubectl-*` were recorded from
//! kubectl 1.32, the others written by the Go types of Kubernetes 1.33; beside each stands
//! what the same client sends as JSON.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use sandlot_objects::protobuf::{DecodeError, decode};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/protobuf")
}

/// Every recorded body: its name, its bytes and the same as JSON.
fn bodies() -> Vec<(String, Vec<u8>, Value)> {
    let mut bodies = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pb") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let json = fs::read(path.with_extension("json")).unwrap();
            bodies.push((
                name,
                fs::read(&path).unwrap(),
                serde_json::from_slice(&json).unwrap(),
            ));
        }
    }
    assert!(bodies.len() > 20);
    bodies
}

/// Null and absent mean the same to the server.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        plain => plain,
    }
}

#[test]
fn a_body_in_protobuf_is_the_body_in_json() {
    for (name, body, json) in bodies() {
        let decoded = decode(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded, without_nulls(json), "{name}");
    }
}

#[test]
fn what_is_not_protobuf_is_refused() {
    assert_eq!(decode(b"{}"), Err(DecodeError::NoMagic));
    assert_eq!(decode(b""), Err(DecodeError::NoMagic));
}

/// An envelope around a message.
fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut type_meta = Vec::new();
    put(&mut type_meta, 1, api_version.as_bytes());
    put(&mut type_meta, 2, kind.as_bytes());
    let mut body = b"k8s\0".to_vec();
    put(&mut body, 1, &type_meta);
    put(&mut body, 2, raw);
    body
}

/// Writes a field of bytes.
fn put(into: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    into.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        into.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    into.push(length as u8);
    into.extend_from_slice(bytes);
}

#[test]
fn a_kind_without_protobuf_is_named_in_the_refusal() {
    let error = decode(&envelope("example.com/v1", "Thing", b"")).unwrap_err();
    assert_eq!(error.status(), 400);
    assert_eq!(
        error.to_string(),
        "no kind \"Thing\" is registered for version \"example.com/v1\" in protobuf; send JSON"
    );
}

#[test]
fn options_to_delete_are_understood_in_every_version() {
    let decoded = decode(&envelope(
        "rbac.authorization.k8s.io/v1",
        "DeleteOptions",
        &[8, 5],
    ))
    .unwrap();
    assert_eq!(decoded["gracePeriodSeconds"], 5);
}

#[test]
fn fields_of_newer_clients_are_skipped() {
    let raw = [0xfa, 0x7f, 1, b'x', 0xf8, 0x7f, 1];
    assert!(decode(&envelope("v1", "ConfigMap", &raw)).is_ok());
}

#[test]
fn a_message_that_ends_early_is_refused() {
    for raw in [
        &[0x0a][..],
        &[0x0a, 5, 1],
        &[0xff; 11],
        &[0x0b],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let error = decode(&envelope("v1", "ConfigMap", raw)).unwrap_err();
        assert!(
            matches!(error, DecodeError::Malformed(_)),
            "{raw:?}: {error}"
        );
    }
}

#[test]
fn a_schema_within_a_schema_within_a_schema_is_refused_in_time() {
    // JSONSchemaProps.not, over and over.
    let mut schema = Vec::new();
    for _ in 0..500 {
        let mut outer = vec![0xe2, 0x01];
        let mut inner = Vec::new();
        put(&mut inner, 0, &schema);
        outer.extend_from_slice(&inner[1..]);
        schema = outer;
    }
    let wrap = |number: u8, bytes: &[u8]| {
        let mut message = Vec::new();
        put(&mut message, number, bytes);
        message
    };
    // CustomResourceDefinition.spec.versions[].schema.openAPIV3Schema
    let raw = wrap(2, &wrap(7, &wrap(4, &wrap(1, &schema))));
    let body = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw);
    assert!(matches!(decode(&body), Err(DecodeError::TooLarge(_))));
}

#[test]
fn two_bytes_a_value_cannot_fill_the_memory() {
    // Pod.spec, a million empty containers.
    let containers = [0x12, 0].repeat(1_000_000);
    let mut pod = Vec::new();
    put(&mut pod, 2, &containers);
    let error = decode(&envelope("v1", "Pod", &pod)).unwrap_err();
    assert_eq!(error.status(), 413);
}

proptest! {
    #[test]
    fn decoding_never_crashes(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        for (version, kind) in [("v1", "Pod"), ("v1", "Secret"), ("coordination.k8s.io/v1", "Lease")] {
            let _ = decode(&envelope(version, kind, &raw));
        }
    }

    #[test]
    fn no_damaged_body_crashes_the_decoder(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let bodies = bodies();
        let (_, body, _) = which.get(&bodies);
        let mut body = body.clone();
        for (place, byte) in damage {
            *place.get_mut(&mut body) = byte;
        }
        let _ = decode(&body);
        body.truncate(cut.index(body.len()));
        let _ = decode(&body);
    }
}
