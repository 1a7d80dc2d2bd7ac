//! What kubectl looks for in the documents.

use serde_json::{Value, json};

use super::*;
use crate::{builtin, crd};

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

fn pods() -> KindInfo<'static> {
    KindInfo {
        group: "",
        version: "v1",
        kind: "Pod",
        list_kind: "PodList",
        plural: "pods",
        namespaced: true,
        schema: builtin::schema("io.k8s.api.core.v1.Pod").unwrap(),
        verbs: VERBS.to_vec(),
        subresources: vec![
            Subresource {
                name: "status",
                body: None,
                verbs: vec!["get", "patch", "update"],
            },
            Subresource {
                name: "binding",
                body: Some(Body::BINDING),
                verbs: vec!["create"],
            },
        ],
    }
}

fn definition() -> crd::Definition {
    let mut crd = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "description": "A widget.", "properties": {
                "spec": {"type": "object", "description": "What is wanted.", "properties": {
                    "size": {"type": "integer", "nullable": true, "description": "How big."}}}}}}}],
    }});
    crd::default(&mut crd);
    crd::Definition::parse(&crd).unwrap()
}

/// Every `$ref` in a document.
fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(
                fields
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields.values().for_each(|field| references(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        _ => {}
    }
}

fn assert_whole(document: &Value) {
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
}

#[test]
fn every_reference_leads_somewhere_in_both_editions() {
    let definition = definition();
    let version = &definition.versions[0];
    let widgets = KindInfo {
        group: "example.com",
        version: "v1",
        kind: "Widget",
        list_kind: "WidgetList",
        plural: "widgets",
        namespaced: false,
        schema: &version.schema,
        verbs: VERBS.to_vec(),
        subresources: vec![Subresource {
            name: "scale",
            body: Some(Body::SCALE),
            verbs: vec!["get", "patch", "update"],
        }],
    };
    assert_whole(&v3(&[pods()]));
    assert_whole(&v3(std::slice::from_ref(&widgets)));
    assert_whole(&v2(&[pods(), widgets]));
    let crd = builtin::schema(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    )
    .unwrap();
    let crds = KindInfo {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        list_kind: "CustomResourceDefinitionList",
        plural: "customresourcedefinitions",
        namespaced: false,
        schema: crd,
        ..pods()
    };
    assert_whole(&v3(&[crds]));
}

#[test]
fn kubectl_finds_field_validation_and_dry_run_on_patches() {
    let document = v3(&[pods()]);
    let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "", "version": "v1", "kind": "Pod"})
    );
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let types: Vec<&String> = patch["requestBody"]["content"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert!(
        types
            .iter()
            .any(|media| *media == "application/strategic-merge-patch+json")
    );
    assert!(
        types
            .iter()
            .any(|media| *media == "application/apply-patch+yaml")
    );
}

#[test]
fn kubectl_finds_merge_keys_in_the_types() {
    let document = v3(&[pods()]);
    let schemas = &document["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
}

#[test]
fn a_custom_kind_explains_itself() {
    let definition = definition();
    let widgets = KindInfo {
        group: "example.com",
        kind: "Widget",
        list_kind: "WidgetList",
        plural: "widgets",
        namespaced: false,
        schema: &definition.versions[0].schema,
        ..pods()
    };
    let document = v3(&[widgets]);
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["description"], "A widget.");
    assert_eq!(
        schema["properties"]["spec"]["properties"]["size"]["description"],
        "How big."
    );
    assert_eq!(
        schema["properties"]["metadata"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    assert!(
        document["paths"]["/apis/example.com/v1/widgets/{name}"]["patch"]["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_none()
    );
}

#[test]
fn the_index_names_documents_by_their_hash() {
    let hash = hash(b"document");
    let index = index([("api/v1", hash.as_str())]);
    assert_eq!(
        index["paths"]["api/v1"]["serverRelativeURL"],
        format!("/openapi/v3/api/v1?hash={hash}")
    );
}
