//! Kinds that come from CustomResourceDefinitions.

use std::cmp::Reverse;
use std::sync::Arc;

use sandlot_objects::crd::{Conversion, Definition, Names, Version};
use sandlot_objects::schema::Schema;
use serde_json::Value;

use super::{Kind, Origin, api_version, stored_as};
use crate::conversion::Converter;
use crate::object::at;
use crate::webhook::Services;

/// What only custom kinds have.
#[derive(Clone, Debug)]
pub(crate) struct Custom {
    /// The version as it is defined.
    pub(crate) version: Version,
    /// Its `additionalPrinterColumns`, as they stand in the definition.
    pub(crate) columns: Value,
    /// The shape of the version that is stored.
    pub(crate) stored: Arc<Schema>,
    /// Who knows how objects look in another version; without one they look the same.
    pub(crate) converter: Option<Arc<Converter>>,
    /// The revision of the definition; objects written before it may not know its defaults.
    pub(crate) since: u64,
    /// Whether no new objects may be made: the definition is on its way out.
    pub(crate) terminating: bool,
}

/// The kinds that a stored definition brings: one for each version served, none while its
/// names are not accepted.
pub(crate) fn kinds_of(
    definition: &Value,
    revision: u64,
    services: &Arc<dyn Services>,
) -> Vec<Kind> {
    let accepted = &definition["status"]["acceptedNames"];
    let (Ok(parsed), Ok(names)) = (Definition::parse(definition), Names::parse(accepted)) else {
        return Vec::new();
    };
    let Some(stored) = parsed
        .storage()
        .cloned()
        .filter(|_| is_established(definition))
    else {
        return Vec::new();
    };
    let terminating = crate::object::is_deleting(definition);
    let converter = match &parsed.conversion {
        Conversion::None => None,
        Conversion::Webhook(webhook) => {
            let name = crate::object::name(definition);
            let services = Arc::clone(services);
            Some(Arc::new(Converter::new(name, webhook, services)))
        }
    };
    let served = parsed.versions.iter().filter(|version| version.served);
    served
        .map(|version| Kind {
            group: parsed.group.clone(),
            version: version.name.clone(),
            kind: names.kind.clone(),
            list_kind: names.list_kind.clone(),
            plural: names.plural.clone(),
            singular: names.singular.clone(),
            short_names: names.short_names.clone(),
            categories: names.categories.clone(),
            namespaced: parsed.namespaced,
            subresources: subresources(version),
            selectable: version
                .selectable_fields
                .iter()
                .map(|path| path.trim_start_matches('.').to_owned())
                .collect(),
            stored_as: stored_as(&parsed.group, &names.plural),
            stored_version: api_version(&parsed.group, &stored.name),
            schema: Some(Arc::clone(&version.schema)),
            origin: Origin::Custom(Arc::new(Custom {
                version: version.clone(),
                columns: columns(definition, &version.name),
                stored: Arc::clone(&stored.schema),
                converter: converter.clone(),
                since: revision,
                terminating,
            })),
        })
        .collect()
}

fn columns(definition: &Value, version: &str) -> Value {
    let versions = at(definition, &["spec", "versions"]).and_then(Value::as_array);
    let version = versions
        .into_iter()
        .flatten()
        .find(|one| one["name"] == version);
    version
        .and_then(|version| version.get("additionalPrinterColumns"))
        .cloned()
        .unwrap_or_default()
}

fn subresources(version: &Version) -> Vec<String> {
    let scale = version.scale.as_ref().map(|_| "scale".to_owned());
    let status = version.status.then(|| "status".to_owned());
    scale.into_iter().chain(status).collect()
}

fn is_established(definition: &Value) -> bool {
    let conditions = at(definition, &["status", "conditions"]).and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["type"] == "Established" && one["status"] == "True")
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
