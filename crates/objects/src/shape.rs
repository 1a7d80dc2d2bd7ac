//! Walking a value and its schema side by side.
//!
//! A [`Shape`] is a place in a schema with references already followed. Where the schema
//! ends, the shape is unknown and callers deduce from the value: objects merge field by
//! field and lists have one owner, as Kubernetes deduces for unschemed objects.

use crate::{
    builtin,
    schema::{Additional, ListType, Schema, Strategy, Types},
};

/// The type whose fields every object has under `metadata`.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// How many references may follow one another before the shape counts as unknown.
const MAX_HOPS: usize = 8;

/// A place in a schema.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// The schema as it stands at the field: it carries how the field merges.
    site: Option<&'a Schema>,
    /// The schema behind all references: it carries the fields.
    body: Option<&'a Schema>,
    types: &'a Types,
    /// Whether this is a whole Kubernetes object, with `metadata`.
    whole: bool,
}

impl Shape<'static> {
    /// The shape of an object of which nothing is known but that it has `metadata`.
    pub fn deduced() -> Self {
        Self {
            site: None,
            body: None,
            types: builtin::types(),
            whole: true,
        }
    }
}

impl<'a> Shape<'a> {
    /// The shape of a whole Kubernetes object.
    pub fn object(schema: &'a Schema, types: &'a Types) -> Self {
        Self {
            whole: true,
            ..Self::value(schema, types)
        }
    }

    /// The shape of any value.
    pub fn value(schema: &'a Schema, types: &'a Types) -> Self {
        let mut body = Some(schema);
        let mut hops = 0;
        while let Some(name) = body.and_then(|schema| schema.reference.as_ref()) {
            hops += 1;
            body = if hops > MAX_HOPS {
                None
            } else {
                types.get(name).map(AsRef::as_ref)
            };
        }
        let whole = schema.embedded_resource || body.is_some_and(|body| body.embedded_resource);
        Self {
            site: Some(schema),
            body,
            types,
            whole,
        }
    }

    fn unknown(self) -> Self {
        Self {
            site: None,
            body: None,
            types: self.types,
            whole: false,
        }
    }

    /// The shape of the field `name` of an object.
    pub fn field(self, name: &str) -> Self {
        let named = self.body.and_then(|body| body.properties.get(name));
        if self.whole
            && name == "metadata"
            && named.is_none_or(|meta| meta.properties.is_empty() && meta.reference.is_none())
            && let Some(meta) = self.types.get(OBJECT_META)
        {
            return Self::value(meta, self.types);
        }
        if let Some(schema) = named {
            return Self::value(schema, self.types);
        }
        match self.body.map(|body| &body.additional) {
            Some(Additional::Of(schema)) => Self::value(schema, self.types),
            _ => self.unknown(),
        }
    }

    /// Whether `name` is a field of the type, not a key that a user chose.
    pub fn names(self, name: &str) -> bool {
        (self.whole && matches!(name, "apiVersion" | "kind" | "metadata"))
            || self
                .body
                .is_some_and(|body| body.properties.contains_key(name))
    }

    /// The shape of the items of a list.
    pub fn items(self) -> Self {
        match self.body.and_then(|body| body.items.as_deref()) {
            Some(items) => Self::value(items, self.types),
            None => self.unknown(),
        }
    }

    /// How a list here merges under apply.
    pub fn list_type(self) -> &'a ListType {
        match self.body {
            Some(body) => &body.list_type,
            None => &ListType::Atomic,
        }
    }

    /// Whether an object here has one owner.
    pub fn is_atomic_map(self) -> bool {
        self.site.is_some_and(|site| site.atomic_map)
            || self.body.is_some_and(|body| body.atomic_map)
    }

    /// How a strategic-merge patch treats this place.
    pub fn strategy(self) -> Option<&'a Strategy> {
        self.site.map(|site| &site.strategy)
    }

    /// The schema behind all references, where there is one.
    pub fn schema(self) -> Option<&'a Schema> {
        self.body
    }
}
