//! What an object is called.

use std::{fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The namespace and name of an object; cheap to copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Key {
    /// The name of an object, which every stored object has.
    pub(crate) fn of(meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            namespace: Arc::from(meta.namespace.as_deref()?),
            name: Arc::from(meta.name.as_deref()?),
        })
    }

    /// Another object of the same namespace.
    pub(crate) fn beside(&self, name: &str) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: Arc::from(name),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The revision that a resourceVersion stands for. Every Kubernetes writes whole numbers that
/// grow; anything else counts as new.
pub(crate) fn revision(meta: &ObjectMeta) -> u64 {
    meta.resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(u64::MAX)
}

/// When an object was made.
pub(crate) fn made(meta: &ObjectMeta) -> jiff::Timestamp {
    meta.creation_timestamp
        .as_ref()
        .map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0)
}
