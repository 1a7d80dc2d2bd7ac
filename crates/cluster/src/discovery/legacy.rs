//! Discovery as it has always been: one document for the groups, one for each version.

use serde_json::{Value, json};

use super::subresource;
use crate::kinds::{Kind, Kinds, api_version};
use crate::status::ApiError;

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(crate) fn groups(kinds: &Kinds) -> Value {
    let groups: Vec<Value> = kinds
        .groups()
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| entry(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(kinds: &Kinds, group: &str) -> Result<Value, ApiError> {
    let versions = kinds
        .groups()
        .get(group)
        .filter(|_| !group.is_empty())
        .ok_or_else(ApiError::no_such_path)?;
    let mut entry = entry(group, versions);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Ok(entry)
}

fn entry(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(crate) fn resources(kinds: &Kinds, group: &str, version: &str) -> Result<Value, ApiError> {
    let known = kinds
        .groups()
        .get(group)
        .is_some_and(|versions| versions.iter().any(|one| one == version));
    if !known {
        return Err(ApiError::no_such_path());
    }
    let resources: Vec<Value> = kinds
        .of_version(group, version)
        .iter()
        .flat_map(|kind| lines(kind))
        .collect();
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": api_version(group, version), "resources": resources,
    }))
}

fn lines(kind: &Kind) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": kind.verbs(),
    });
    if !kind.short_names.is_empty() {
        main["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        main["categories"] = kind.categories.clone().into();
    }
    let mut lines = vec![main];
    lines.extend(subresource::of(kind).map(|sub| {
        let mut line = json!({
            "name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
            "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs,
        });
        if sub.group != kind.group || sub.version != kind.version {
            line["group"] = sub.group.into();
            line["version"] = sub.version.into();
        }
        line
    }));
    lines
}
