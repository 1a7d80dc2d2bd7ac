//! The kinds that are built in: their types, their defaults and their rules.
//!
//! - [`types`] and [`schema()`] give the shapes, with the facts that merging needs;
//! - [`defaults::apply`] fills in what a real API server fills in;
//! - [`rules::validate`] tells what is wrong with an object, beyond its shape.

pub mod defaults;
mod merge;
pub mod quantity;
pub mod rules;
mod types;

use std::sync::{Arc, LazyLock};

use crate::schema::{Schema, Types};

/// Every built-in type by name, such as `io.k8s.api.core.v1.Pod`.
///
/// Types stand inside one another in full; only the one that contains itself
/// (`JSONSchemaProps`) is continued by reference.
pub fn types() -> &'static Types {
    static TYPES: LazyLock<Types> = LazyLock::new(types::build);
    &TYPES
}

/// The type of that name.
pub fn schema(name: &str) -> Option<&'static Arc<Schema>> {
    types().get(name)
}

/// The type of an object's `metadata`.
pub fn object_meta() -> Arc<Schema> {
    // The generator was asked for this very type; an absent one would be an empty shape.
    schema("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ListType, prune, validate};
    use serde_json::json;

    fn pod() -> &'static Schema {
        schema("io.k8s.api.core.v1.Pod").unwrap()
    }

    #[test]
    fn every_merge_fact_names_a_field_that_exists() {
        assert_eq!(merge::stray(types()), Vec::<String>::new());
    }

    #[test]
    fn containers_merge_by_name_and_their_ports_by_port_and_protocol() {
        let containers = &pod().properties["spec"].properties["containers"];
        assert_eq!(containers.list_type, ListType::Map(vec!["name".into()]));
        assert_eq!(containers.strategy.merge_key.as_deref(), Some("name"));
        let ports = &containers.items.as_ref().unwrap().properties["ports"];
        assert_eq!(
            ports.list_type,
            ListType::Map(vec!["containerPort".into(), "protocol".into()])
        );
        assert_eq!(ports.strategy.merge_key.as_deref(), Some("containerPort"));
        assert_eq!(
            ports.items.as_ref().unwrap().properties["protocol"].default,
            Some(json!("TCP"))
        );
        assert!(
            pod().properties["spec"].properties["volumes"]
                .strategy
                .retain_keys
        );
    }

    #[test]
    fn unknown_fields_of_a_pod_are_found_deep_inside() {
        let mut value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}, "colour": "red"},
            "spec": {"containers": [{"name": "c", "image": "i", "comand": ["x"],
                "resources": {"requests": {"cpu": 0.5, "memory": "1Gi"}}}],
                "volumes": [{"name": "v", "configMap": {"name": "m", "itmes": []}}]}});
        let unknown = prune(pod(), &mut value);
        assert_eq!(
            unknown,
            [
                "metadata.colour",
                "spec.containers[0].comand",
                "spec.volumes[0].configMap.itmes"
            ]
        );
        assert_eq!(validate(pod(), &value, None), []);
    }

    #[test]
    fn a_schema_inside_a_schema_inside_a_definition_is_known() {
        let crd = schema(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        )
        .unwrap();
        let mut value = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "type": "object",
            "default": {"any": ["thing", 1]},
            "properties": {"a": {"type": "array", "items": {"type": "string", "wrong": 1}},
                "b": {"additionalProperties": true}, "c": {"additionalProperties": {"wrong": 2, "enum": [1, "x"]}}},
        }}}]}});
        let unknown = prune(crd, &mut value);
        let at = "spec.versions[0].schema.openAPIV3Schema.properties";
        assert_eq!(
            unknown,
            [
                format!("{at}.a.items.wrong"),
                format!("{at}.c.additionalProperties.wrong")
            ]
        );
        assert_eq!(validate(crd, &json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"b": {"type": "object", "additionalProperties": true}}}}}]}}), None)
            .iter().filter(|cause| cause.field.contains("openAPI")).count(), 0);
    }
}
