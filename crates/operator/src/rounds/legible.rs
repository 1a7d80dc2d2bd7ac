//! Objects that may be illegible: one that cannot be read must not hide the others of its kind.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::value::RawValue;

/// An object as the API tells it, or what is known of one that cannot be read.
#[derive(Clone, Debug)]
pub(crate) enum Told<K> {
    Legible(K),
    Illegible(Box<Illegible>),
}

/// What is known of an object that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Illegible {
    error: String,
    metadata: ObjectMeta,
}

/// What every object has.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<K: Resource<DynamicType = ()>> Told<K> {
    /// The object, if it can be read; one that cannot is passed over with a word.
    pub(crate) fn legible(self) -> Option<K> {
        match self {
            Self::Legible(object) => Some(object),
            Self::Illegible(it) => {
                let (error, name) = (it.error, it.metadata.name.unwrap_or_default());
                tracing::warn!(kind = %K::kind(&()), name, error, "an object cannot be read and is passed over");
                None
            }
        }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Told<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is kept to be read a second time, should the first fail. Every change in the
        // cluster comes this way, so it is not made a tree of values first.
        let text = Box::<RawValue>::deserialize(deserializer)?;
        serde_json::from_str(text.get())
            .map(Self::Legible)
            .or_else(|error| {
                let Named { metadata } =
                    serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                let error = error.to_string();
                Ok(Self::Illegible(Box::new(Illegible { error, metadata })))
            })
    }
}

impl<K: Resource> Resource for Told<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Legible(object) => object.meta(),
            Self::Illegible(it) => &it.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Legible(object) => object.meta_mut(),
            Self::Illegible(it) => &mut it.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::{api::WatchEvent, core::ObjectList};
    use sandlot_api::arl::Sandbox;

    use super::*;

    const GOOD: &str = r#"{"metadata": {"name": "good"}, "spec": {"poolRef": "p"}}"#;
    const BAD: &str = r#"{"metadata": {"name": "bad"}, "spec": {"poolRef": 7}}"#;

    #[test]
    fn one_that_cannot_be_read_does_not_hide_the_others_of_a_list() {
        let text = format!(
            r#"{{"apiVersion": "v1", "kind": "List", "metadata": {{}}, "items": [{BAD}, {GOOD}]}}"#
        );
        let list: ObjectList<Told<Sandbox>> = serde_json::from_str(&text).unwrap();
        let names: Vec<_> = list
            .iter()
            .map(|told| told.meta().name.as_deref())
            .collect();
        assert_eq!(names, [Some("bad"), Some("good")]);
        let legible: Vec<_> = list.into_iter().filter_map(Told::legible).collect();
        assert_eq!(legible.len(), 1);
        assert_eq!(legible[0].spec.pool_ref, "p");
    }

    #[test]
    fn a_change_of_one_that_cannot_be_read_still_has_a_name() {
        let text = format!(r#"{{"type": "MODIFIED", "object": {BAD}}}"#);
        let event: WatchEvent<Told<Sandbox>> = serde_json::from_str(&text).unwrap();
        let WatchEvent::Modified(told) = event else {
            panic!("{event:?}")
        };
        assert_eq!(told.meta().name.as_deref(), Some("bad"));
        assert!(told.legible().is_none());
    }
}
