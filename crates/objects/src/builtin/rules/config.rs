//! Config maps and secrets.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::{Checks, config_key, entries};
use crate::schema::{Cause, Path};

/// How much a config map or secret may hold.
const MAX_SIZE: usize = 1 << 20;

/// The keys that secrets of these types cannot do without.
const NEEDED: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

pub(super) fn check_config_map(checks: &mut Checks, map: &Value, old: Option<&Value>) {
    let mut size = 0;
    for (key, value) in entries(map, "data") {
        let at = Path::of("data").key(key);
        checks.faults(at.clone(), &json!(key), config_key(key));
        if map["binaryData"].get(key).is_some() {
            checks.invalid(at, &json!(key), "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(map, "binaryData") {
        let at = Path::of("binaryData").key(key);
        checks.faults(at.clone(), &json!(key), config_key(key));
        size += decoded(checks, at, value);
    }
    check_size(checks, size);
    check_fixed(checks, map, old, &["data", "binaryData"]);
}

pub(super) fn check_secret(checks: &mut Checks, secret: &Value, old: Option<&Value>) {
    let mut size = 0;
    for (key, value) in entries(secret, "data") {
        let at = Path::of("data").key(key);
        checks.faults(at.clone(), &json!(key), config_key(key));
        size += decoded(checks, at, value);
    }
    check_size(checks, size);
    let kind = secret["type"].as_str().unwrap_or_default();
    for key in NEEDED
        .iter()
        .filter(|(of, _)| *of == kind)
        .flat_map(|(_, keys)| *keys)
    {
        if secret["data"].get(key).is_none() {
            checks.required(Path::of("data").key(key), "");
        }
    }
    if kind == "kubernetes.io/basic-auth"
        && ["username", "password"]
            .iter()
            .all(|key| secret["data"].get(*key).is_none())
    {
        checks.required(Path::of("data[username]"), "");
        checks.required(Path::of("data[password]"), "");
    }
    if kind == "kubernetes.io/service-account-token"
        && entries(&secret["metadata"], "annotations")
            .all(|(key, _)| key != "kubernetes.io/service-account.name")
    {
        checks.required(
            Path::of("metadata.annotations[kubernetes.io/service-account.name]"),
            "",
        );
    }
    if let Some(old) = old {
        checks.same(Path::of("type"), &secret["type"], &old["type"]);
    }
    check_fixed(checks, secret, old, &["data"]);
}

/// How many bytes a value stands for. It is not shown when it is wrong: it may be secret.
fn decoded(checks: &mut Checks, path: Path, value: &Value) -> usize {
    let bytes = value
        .as_str()
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    if bytes.is_none() && !value.is_null() {
        checks.invalid(path, &json!("***"), "must be base64 encoded");
    }
    bytes.map_or(0, |bytes| bytes.len())
}

fn check_size(checks: &mut Checks, size: usize) {
    if size > MAX_SIZE {
        checks.add(Cause::too_long("data", MAX_SIZE as u64));
    }
}

/// What was once declared immutable stays as it is, and stays immutable.
fn check_fixed(checks: &mut Checks, new: &Value, old: Option<&Value>, fields: &[&str]) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else {
        return;
    };
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        checks.forbidden(Path::of("immutable"), detail);
    }
    let content = |of: &Value, field: &str| of[field].as_object().cloned().unwrap_or_else(Map::new);
    for field in fields
        .iter()
        .filter(|field| content(new, field) != content(old, field))
    {
        checks.forbidden(Path::of(field), detail);
    }
}
