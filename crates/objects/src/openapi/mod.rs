//! OpenAPI documents for the kinds that are served: what `kubectl explain` reads, and where
//! `kubectl apply` and `kubectl diff` look for field validation and merge keys.
//!
//! One document per group and version in the third edition ([`v3()`]), an index of them
//! ([`index`]), and all in one in the second edition ([`v2()`]). Documents change only when
//! kinds do, so callers keep them and use [`hash`] as their tag.

mod binary;
mod components;
mod operations;
mod paths;
#[cfg(test)]
mod tests;
mod v2;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use self::{binary::binary, v2::v2};
use crate::schema::Schema;

/// A kind in one version, as the documents describe it.
#[derive(Clone, Debug)]
pub struct KindInfo<'a> {
    /// The API group; empty for the core.
    pub group: &'a str,
    /// The version.
    pub version: &'a str,
    /// The kind, such as `Pod`.
    pub kind: &'a str,
    /// The kind of its lists, such as `PodList`.
    pub list_kind: &'a str,
    /// The name in URLs, such as `pods`.
    pub plural: &'a str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// The shape of the objects. A built-in shape has a name; a custom one is given one.
    pub schema: &'a Schema,
    /// What can be done with the objects: `create`, `get`, `list`, `watch`, `update`,
    /// `patch`, `delete`, `deletecollection`.
    pub verbs: Vec<&'a str>,
    /// What else is below an object.
    pub subresources: Vec<Subresource<'a>>,
}

/// A path below an object, such as `status` or `scale`.
#[derive(Clone, Debug)]
pub struct Subresource<'a> {
    /// Its name in the URL.
    pub name: &'a str,
    /// The group, version and kind of what is sent and received, where they are not the
    /// object's own.
    pub body: Option<Body<'a>>,
    /// What can be done with it: `get`, `update`, `patch`, `create`.
    pub verbs: Vec<&'a str>,
}

/// What a subresource speaks.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// The API group.
    pub group: &'a str,
    /// The version.
    pub version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The name of the built-in type.
    pub type_name: &'a str,
}

impl Body<'static> {
    /// What `/scale` speaks.
    pub const SCALE: Body<'static> = Body {
        group: "autoscaling",
        version: "v1",
        kind: "Scale",
        type_name: "io.k8s.api.autoscaling.v1.Scale",
    };
    /// What `pods/binding` speaks.
    pub const BINDING: Body<'static> = Body {
        group: "",
        version: "v1",
        kind: "Binding",
        type_name: "io.k8s.api.core.v1.Binding",
    };
    /// What `pods/eviction` speaks.
    pub const EVICTION: Body<'static> = Body {
        group: "policy",
        version: "v1",
        kind: "Eviction",
        type_name: "io.k8s.api.policy.v1.Eviction",
    };
    /// What `serviceaccounts/token` speaks.
    pub const TOKEN_REQUEST: Body<'static> = Body {
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        type_name: "io.k8s.api.authentication.v1.TokenRequest",
    };
}

impl KindInfo<'_> {
    /// The path below which the group and version live: `api/v1` or `apis/example.com/v1`.
    pub fn group_path(&self) -> String {
        group_path(self.group, self.version)
    }

    /// The name of the type in the documents.
    fn type_name(&self) -> String {
        self.schema.name.clone().unwrap_or_else(|| {
            let reversed: Vec<&str> = self.group.split('.').rev().collect();
            format!("{}.{}.{}", reversed.join("."), self.version, self.kind)
        })
    }

    /// The name of the type of its lists.
    fn list_type_name(&self) -> String {
        let own = self.type_name();
        let package = own.rsplit_once('.').map_or("", |(package, _)| package);
        format!("{package}.{}", self.list_kind)
    }

    fn gvk(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }

    fn can(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

/// The document of the third edition for the kinds of one group and version.
pub fn v3(kinds: &[KindInfo<'_>]) -> Value {
    document(kinds, &components::schemas(kinds))
}

fn document(kinds: &[KindInfo<'_>], schemas: &Map<String, Value>) -> Value {
    let mut all = Map::new();
    for kind in kinds {
        paths::add(kind, &mut all);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": all,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication",
            }},
        },
    })
}

/// The path of a group and version: `api/v1` or `apis/example.com/v1`.
pub fn group_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// The index of the third edition, from paths ([`group_path`]) and the [`hash`] of the
/// document there. With the hash in the URL a client may keep a document for ever.
pub fn index<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let paths: Map<String, Value> = documents
        .into_iter()
        .map(|(path, hash)| {
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path.to_owned(), json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The tag of a document.
pub fn hash(document: &[u8]) -> String {
    Sha256::digest(document)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}
