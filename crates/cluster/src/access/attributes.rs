//! What a request wants to do, as far as access is concerned.

use std::fmt::{self, Display, Formatter};

/// What a request wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, …
    pub verb: String,
    /// What it wants to do it to.
    pub target: Target,
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Objects of the API.
    Resource {
        /// The API group; empty for the core group.
        group: String,
        /// The version.
        version: String,
        /// The plural name of the kind.
        resource: String,
        /// For example `status`; empty for the object itself.
        subresource: String,
        /// Empty for objects that belong to none, and for requests across all of them.
        namespace: String,
        /// Empty where the request is about no single object.
        name: String,
    },
    /// Another path, such as `/version`.
    Path(String),
}

impl Attributes {
    /// A request about a resource in its group; the rest starts empty.
    pub fn resource(verb: &str, group: &str, version: &str, resource: &str) -> Self {
        Attributes {
            verb: verb.to_owned(),
            target: Target::Resource {
                group: group.to_owned(),
                version: version.to_owned(),
                resource: resource.to_owned(),
                subresource: String::new(),
                namespace: String::new(),
                name: String::new(),
            },
        }
    }

    /// A request for a path that is no resource.
    pub fn path(verb: &str, path: &str) -> Self {
        Attributes {
            verb: verb.to_owned(),
            target: Target::Path(path.to_owned()),
        }
    }

    /// The same request, in a namespace.
    pub fn in_namespace(mut self, wanted: &str) -> Self {
        if let Target::Resource { namespace, .. } = &mut self.target {
            wanted.clone_into(namespace);
        }
        self
    }

    /// The same request, about one object.
    pub fn named(mut self, wanted: &str) -> Self {
        if let Target::Resource { name, .. } = &mut self.target {
            wanted.clone_into(name);
        }
        self
    }

    /// The same request, about a subresource.
    pub fn subresource(mut self, wanted: &str) -> Self {
        if let Target::Resource { subresource, .. } = &mut self.target {
            wanted.clone_into(subresource);
        }
        self
    }
}

/// In Kubernetes' words, as they follow `User "…" cannot`.
impl Display for Attributes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Path(path) => write!(f, "{} path {path:?}", self.verb),
            Target::Resource {
                group,
                resource,
                subresource,
                namespace,
                ..
            } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                write!(
                    f,
                    "{} resource \"{resource}{slash}{subresource}\" in API group {group:?}",
                    self.verb
                )?;
                match namespace.as_str() {
                    "" => f.write_str(" at the cluster scope"),
                    namespace => write!(f, " in the namespace {namespace:?}"),
                }
            }
        }
    }
}
