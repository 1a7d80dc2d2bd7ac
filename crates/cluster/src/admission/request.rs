//! A write, as admission sees it.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use serde_json::Value;

use super::Denied;
use crate::access::User;
use crate::conversion::Converter;
use crate::status::ApiError;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object.
    Create,
    /// A new state of an object, by update, patch or apply.
    Update,
    /// The end of an object.
    Delete,
    /// A connection to an object: exec, attach, port-forward, proxy.
    Connect,
}

/// As webhooks and their rules spell it.
impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        })
    }
}

/// What a write is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version that the client speaks.
    pub version: String,
    /// The kind of the object in the request, for example `Pod`.
    pub kind: String,
    /// The plural name, for example `pods`.
    pub resource: String,
    /// For example `status`; empty for the object itself.
    pub subresource: String,
    /// Other versions in which the same objects are served.
    pub versions: Vec<String>,
    /// Whether objects of this kind live in namespaces.
    pub namespaced: bool,
}

/// A write on its way to the store.
#[derive(Clone, Debug)]
pub struct AdmissionRequest {
    /// What it does.
    pub operation: Operation,
    /// What it is about.
    pub resource: Resource,
    /// The object's namespace; empty when it belongs to none.
    pub namespace: String,
    /// The object's name; empty on a create that asks for a generated one.
    pub name: String,
    /// Who asks.
    pub user: User,
    /// The object as it is to be stored; `None` on delete. For a connection, its options.
    pub object: Option<Value>,
    /// The object as it is stored now; `None` on create.
    pub old_object: Option<Arc<Value>>,
    /// Who knows how the objects look in another version; without one they look the same.
    pub converter: Option<Arc<Converter>>,
    /// The request's options, such as `DeleteOptions`.
    pub options: Value,
    /// Whether the write will not be stored, and so nothing else may be changed for it.
    pub dry_run: bool,
}

impl AdmissionRequest {
    /// The object may not be written so.
    pub fn forbidden(&self, why: &str) -> Denied {
        ApiError::forbidden(
            &self.resource.group,
            &self.resource.resource,
            &self.name,
            why,
        )
    }

    /// The same write with its objects in another version.
    pub(super) async fn in_version(&self, version: &str) -> Result<Cow<'_, Self>, Denied> {
        let Some(converter) = &self.converter else {
            return Ok(Cow::Borrowed(self));
        };
        if version == self.resource.version {
            return Ok(Cow::Borrowed(self));
        }
        let version = format!("{}/{version}", self.resource.group);
        let mut same = self.clone();
        if let Some(object) = same.object.take() {
            same.object = Some(converter.convert_one(object, &version).await?);
        }
        if let Some(old) = same.old_object.take() {
            let old = Arc::unwrap_or_clone(old);
            same.old_object = Some(Arc::new(converter.convert_one(old, &version).await?));
        }
        Ok(Cow::Owned(same))
    }

    /// Whether the write is about objects of this kind themselves, not a subresource.
    pub fn is_about(&self, group: &str, resource: &str) -> bool {
        let own = &self.resource;
        own.group == group && own.resource == resource && own.subresource.is_empty()
    }

    /// Whether the write stores a new object or a new state of one.
    pub fn stores(&self) -> bool {
        matches!(self.operation, Operation::Create | Operation::Update)
    }
}
