//! Objects that policies are parametrized by: of which kind, which ones, and where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use sandlot_objects::selector::LabelSelector;
use serde_json::Value;

use super::configured::{read, take};
use crate::admission::AdmissionRequest;
use crate::kinds::builtin::{Nature, ROWS};
use crate::kinds::stored_as;
use crate::lookup::{Follow, Lookup};

/// Where the objects of a kind lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    kind: Arc<str>,
    namespaced: bool,
}

/// What a definition says of a kind.
struct Defined {
    group: String,
    kind: String,
    place: Place,
}

/// The kinds that policies can name.
pub(super) struct Kinds {
    definitions: Box<dyn Follow>,
    by_name: BTreeMap<Arc<str>, Arc<Defined>>,
}

impl Kinds {
    pub(super) fn new(lookup: &dyn Lookup) -> Kinds {
        Kinds {
            definitions: lookup.follow(crate::kinds::definitions::STORED_AS),
            by_name: BTreeMap::new(),
        }
    }

    /// Takes in what changed, and says whether anything did.
    pub(super) fn catch_up(&mut self) -> bool {
        take(&mut *self.definitions, &mut self.by_name, |change| {
            let definition: Value = read(change)?;
            let text = |pointer: &str| Some(definition.pointer(pointer)?.as_str()?.to_owned());
            let group = text("/spec/group")?;
            let place = Place {
                kind: stored_as(&group, &text("/spec/names/plural")?),
                namespaced: text("/spec/scope")? == "Namespaced",
            };
            Some(Defined {
                group,
                kind: text("/spec/names/kind")?,
                place,
            })
        })
    }

    /// Where the objects of a policy's `paramKind` lie, or why nobody knows.
    pub(super) fn place(&self, wanted: &ParamKind) -> Result<Place, String> {
        let version = wanted.api_version.as_deref().unwrap_or_default();
        let kind = wanted.kind.as_deref().unwrap_or_default();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let builtin = ROWS
            .iter()
            .find(|row| row.group == group && row.kind == kind && row.nature == Nature::Stored);
        let defined = || {
            let mut all = self.by_name.values();
            all.find(|defined| defined.group == group && defined.kind == kind)
        };
        match builtin {
            Some(row) => Ok(Place {
                kind: stored_as(row.group, row.plural),
                namespaced: row.namespaced,
            }),
            None => defined()
                .map(|defined| defined.place.clone())
                .ok_or_else(|| {
                    format!(
                        "failed to find resource referenced by paramKind: '{version}, Kind={kind}'"
                    )
                }),
        }
    }
}

/// The objects that a binding names for a write; none at all where it is content with that.
pub(super) fn of_binding(
    place: &Place,
    wanted: &ParamRef,
    request: &AdmissionRequest,
    lookup: &dyn Lookup,
) -> Result<Vec<Value>, String> {
    let namespace = match (&wanted.namespace, place.namespaced) {
        (Some(_), false) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped kind".to_owned(),
            );
        }
        (Some(namespace), true) => namespace.as_str(),
        (None, true) if request.namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned());
        }
        (None, true) => request.namespace.as_str(),
        (None, false) => "",
    };
    let found: Vec<Value> = match (&wanted.name, &wanted.selector) {
        (Some(name), _) => lookup
            .get(&place.kind, namespace, name)
            .into_iter()
            .collect(),
        (None, selector) => {
            let selector = selector
                .as_ref()
                .and_then(|one| serde_json::to_value(one).ok());
            let selector = LabelSelector::from_object(selector.as_ref());
            let selector = selector.map_err(|error| error.to_string())?;
            let all = lookup.list(&place.kind, namespace);
            all.into_iter()
                .filter(|object| selector.matches(object))
                .collect()
        }
    };
    if found.is_empty() && wanted.parameter_not_found_action.as_deref() != Some("Allow") {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
        );
    }
    Ok(found)
}
