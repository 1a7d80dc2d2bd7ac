//! Kinds that come from CustomResourceDefinitions.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::Value;

use super::{Kind, Origin, api_version, stored_as};
use crate::object::{at, text};
use crate::schemas;

/// What only custom kinds have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Custom {
    /// The name of the definition.
    pub(crate) definition: String,
    /// Where the scale subresource finds its numbers.
    pub(crate) scale: Option<ScalePaths>,
    /// The `additionalPrinterColumns` as they stand in the definition.
    pub(crate) columns: Value,
    /// Whether no new objects may be made: the definition is on its way out.
    pub(crate) terminating: bool,
}

/// Where the scale subresource finds its numbers, such as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// The kinds that a stored definition brings: one for each version served, none while its
/// names are not accepted.
pub(crate) fn kinds_of(definition: &Value) -> Vec<Kind> {
    if !is_established(definition) {
        return Vec::new();
    }
    let versions = at(definition, &["spec", "versions"]).and_then(Value::as_array);
    let versions: Vec<&Value> = versions.into_iter().flatten().collect();
    let stored = versions
        .iter()
        .find(|version| version["storage"] == true)
        .map_or("", |version| text(version, &["name"]));
    versions
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| kind_of(definition, version, stored))
        .collect()
}

fn kind_of(definition: &Value, version: &Value, stored: &str) -> Kind {
    let group = text(definition, &["spec", "group"]);
    let name = |key: &str| text(definition, &["status", "acceptedNames", key]).to_owned();
    let names = |key: &str| texts(at(definition, &["status", "acceptedNames", key]));
    let plural = name("plural");
    let mut subresources = Vec::new();
    for sub in ["scale", "status"] {
        if at(version, &["subresources", sub]).is_some_and(Value::is_object) {
            subresources.push(sub.to_owned());
        }
    }
    let scale = at(version, &["subresources", "scale"])
        .filter(|scale| scale.is_object())
        .map(|scale| ScalePaths {
            spec: text(scale, &["specReplicasPath"]).to_owned(),
            status: text(scale, &["statusReplicasPath"]).to_owned(),
            selector: scale
                .get("labelSelectorPath")
                .and_then(Value::as_str)
                .map(str::to_owned),
        });
    let selectable = version
        .get("selectableFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    Kind {
        group: group.to_owned(),
        version: text(version, &["name"]).to_owned(),
        kind: name("kind"),
        list_kind: name("listKind"),
        singular: name("singular"),
        short_names: names("shortNames"),
        categories: names("categories"),
        namespaced: text(definition, &["spec", "scope"]) == "Namespaced",
        subresources,
        selectable: selectable
            .map(|field| {
                text(field, &["jsonPath"])
                    .trim_start_matches('.')
                    .to_owned()
            })
            .collect(),
        stored_as: stored_as(group, &plural),
        stored_version: api_version(group, stored),
        plural,
        schema: at(version, &["schema", "openAPIV3Schema"]).map(schemas::of_definition),
        origin: Origin::Custom(Arc::new(Custom {
            definition: crate::object::name(definition).to_owned(),
            scale,
            columns: version
                .get("additionalPrinterColumns")
                .cloned()
                .unwrap_or(Value::Null),
            terminating: crate::object::is_deleting(definition),
        })),
    }
}

fn is_established(definition: &Value) -> bool {
    let conditions = at(definition, &["status", "conditions"]).and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Established" && one["status"] == "True")
}

fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Orders versions as Kubernetes prefers them: `v2`, `v1`, `v1beta2`, `v1alpha1`, then others by name.
pub(crate) fn version_rank(version: &str) -> (u8, Reverse<u64>, Reverse<u64>, String) {
    let other = (3, Reverse(0), Reverse(0), version.to_owned());
    let Some(rest) = version.strip_prefix('v') else {
        return other;
    };
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (Ok(major), stage) = (rest[..digits].parse::<u64>(), &rest[digits..]) else {
        return other;
    };
    let (rank, minor) = match stage {
        "" => (0, Some(0)),
        stage if stage.starts_with("beta") => (1, stage["beta".len()..].parse().ok()),
        stage if stage.starts_with("alpha") => (2, stage["alpha".len()..].parse().ok()),
        _ => return other,
    };
    match minor {
        Some(minor) => (rank, Reverse(major), Reverse(minor), String::new()),
        None => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_before_beta_and_alpha() {
        let mut versions = ["foo", "v1alpha1", "v1beta1", "v1", "v2", "v1beta10", "v10"];
        versions.sort_by_key(|version| version_rank(version));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v1beta10", "v1beta1", "v1alpha1", "foo"]
        );
    }
}
