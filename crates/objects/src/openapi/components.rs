//! The types that the kinds of a document reach.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::KindInfo;
use crate::{
    builtin,
    schema::{Additional, Schema},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A reference to a type.
pub(super) fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// Every type that the kinds reach, written out.
pub(super) fn schemas(kinds: &[KindInfo<'_>]) -> Map<String, Value> {
    let mut reached = BTreeSet::new();
    let mut out = Map::new();
    for name in ["DeleteOptions", "Status", "Patch", "ListMeta"] {
        reach_named(&format!("{META}.{name}"), &mut reached);
    }
    for kind in kinds {
        reach(kind.schema, &mut reached);
        for body in kind.subresources.iter().filter_map(|sub| sub.body) {
            reach_named(body.type_name, &mut reached);
            let gvk = json!({"group": body.group, "version": body.version, "kind": body.kind});
            if let Some(schema) = builtin::schema(body.type_name) {
                out.insert(body.type_name.to_owned(), with_gvk(written(schema), gvk));
            }
        }
        out.insert(kind.type_name(), with_gvk(written(kind.schema), kind.gvk()));
        if kind.can("list") {
            out.insert(kind.list_type_name(), list(kind));
        }
    }
    for name in reached {
        if let Some(schema) = builtin::schema(&name)
            && !out.contains_key(&name)
        {
            out.insert(name, written(schema));
        }
    }
    out
}

fn with_gvk(mut schema: Value, gvk: Value) -> Value {
    schema["x-kubernetes-group-version-kind"] = json!([gvk]);
    schema
}

fn written(schema: &Schema) -> Value {
    let last = schema
        .name
        .as_deref()
        .and_then(|name| name.rsplit('.').next());
    match last {
        Some("IntOrString") => json!({
            "description": schema.description,
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        }),
        // Any JSON; how it continues if it is an object is nobody's business here.
        Some(
            "JSON"
            | "JSONSchemaPropsOrArray"
            | "JSONSchemaPropsOrBool"
            | "JSONSchemaPropsOrStringArray",
        ) => {
            json!({"description": schema.description})
        }
        Some("FieldsV1" | "RawExtension" | "Patch") => {
            json!({"description": schema.description, "type": "object"})
        }
        _ => schema.to_json(&reference),
    }
}

fn list(kind: &KindInfo<'_>) -> Value {
    let text = |description: &str| json!({"description": description, "type": "string"});
    json!({
        "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("APIVersion defines the versioned schema of this representation of an object."),
            "kind": text("Kind is a string value representing the REST resource this object represents."),
            "metadata": {"$ref": reference(&format!("{META}.ListMeta"))},
            "items": {
                "description": format!("List of {}.", kind.plural),
                "type": "array",
                "items": {"$ref": reference(&kind.type_name())},
            },
        },
        "x-kubernetes-group-version-kind":
            [{"group": kind.group, "version": kind.version, "kind": kind.list_kind}],
    })
}

fn reach_named(name: &str, reached: &mut BTreeSet<String>) {
    if reached.insert(name.to_owned())
        && let Some(schema) = builtin::schema(name)
    {
        below(schema, reached);
    }
}

/// Notes the types that a schema names; a named one is followed once.
fn reach(schema: &Schema, reached: &mut BTreeSet<String>) {
    match schema.reference.as_ref().or(schema.name.as_ref()) {
        Some(name) => reach_named(name, reached),
        None => below(schema, reached),
    }
}

fn below(schema: &Schema, reached: &mut BTreeSet<String>) {
    for property in schema.properties.values() {
        reach(property, reached);
    }
    if let Some(items) = &schema.items {
        reach(items, reached);
    }
    if let Additional::Of(of) = &schema.additional {
        reach(of, reached);
    }
}
