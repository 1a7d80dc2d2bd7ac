//! Definitions as a user sends them: what is refused and why, what is filled in, and what
//! objects of the kind then go through.

use proptest::prelude::{any, prop, proptest};
use serde_json::{Value, json};

use super::*;
use crate::schema::Cause;

/// A definition with one version that has this schema.
fn crd(schema: Value) -> Value {
    let mut crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}}}],
        },
    });
    default(&mut crd);
    crd
}

/// A schema whose `spec` has one field.
fn field(schema: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": schema}}}})
}

fn faults(crd: &Value) -> Vec<String> {
    validate(crd, None).iter().map(Cause::to_string).collect()
}

/// What is wrong with the one field of `spec`, by its path below it.
fn field_faults(schema: Value) -> Vec<String> {
    let at = "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[x]";
    let told = faults(&crd(field(schema)));
    told.iter()
        .map(|cause| cause.strip_prefix(at).unwrap_or(cause).to_owned())
        .collect()
}

#[test]
fn a_plain_definition_is_complete_and_right() {
    let crd = crd(field(json!({"type": "string"})));
    assert_eq!(faults(&crd), [""; 0]);
    assert_eq!(crd["spec"]["names"]["singular"], "widget");
    assert_eq!(crd["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(crd["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    let definition = Definition::parse(&crd).unwrap();
    assert_eq!(definition.names.short_names, ["wd"]);
    let version = definition.storage().unwrap();
    assert!(version.status && version.served);
    assert_eq!(
        version.scale.as_ref().unwrap().label_selector.as_deref(),
        Some(".status.selector")
    );
    assert_eq!(
        version.columns.head(json!({}))["columnDefinitions"][1]["name"],
        "Age"
    );
}

#[test]
fn a_schema_that_is_not_structural_is_refused() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({}),
            &[".type: Required value: must not be empty for specified object fields"],
        ),
        (
            json!({"type": "array"}),
            &[".items: Required value: must be specified"],
        ),
        (
            json!({"type": "array", "items": {}}),
            &[".items.type: Required value: must not be empty for specified array items"],
        ),
        (
            json!({"type": "text"}),
            &[
                r#".type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#,
            ],
        ),
        (
            json!({"type": "string", "$ref": "#/x"}),
            &[".$ref: Forbidden: $ref is not supported"],
        ),
        (
            json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}}),
            &[
                ".uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            &[".additionalProperties: Forbidden: additionalProperties cannot be set to false"],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            &[
                ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-int-or-string": true}),
            &[
                r#".type: Invalid value: "string": must be empty if x-kubernetes-int-or-string is true"#,
            ],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            &[],
        ),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), &[]),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            &[
                ".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
            ],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            &[
                ".properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}),
            &[
                ".x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "z"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
            &[
                ".items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                r#".x-kubernetes-list-map-keys[1]: Invalid value: "z": entries must all be names of item properties"#,
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            &[
                r#".type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
            ],
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string", "description": "no"}]}),
            &[
                ".anyOf[0].description: Forbidden: must be empty to be structural",
                ".anyOf[0].type: Forbidden: must be empty to be structural",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"properties": {"b": {"enum": ["x"]}}}]}),
            &[
                ".properties[b]: Required value: because it is defined in spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[x].oneOf[0].properties[b]",
            ],
        ),
        (
            json!({"type": "integer", "default": "one"}),
            &[
                r#".default: Invalid value: "string": spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[x].default in body must be of type integer: "string""#,
            ],
        ),
        (
            json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string"}}}),
            &[r#".default: Invalid value: {"b":1}: must not have unknown fields: b"#],
        ),
        (
            json!({"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self.x == 1 &&"}, {"rule": "self != ''"}]}),
            &[".x-kubernetes-validations[0].rule: Invalid value"],
        ),
        (
            json!({"type": "array", "items": {"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}),
            &[
                r#".items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema"#,
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"t": {"type": "string",
                "x-kubernetes-validations": [{"rule": "self.matches('^(a|b)+$')"}]}}}}),
            &[
                ".items.properties[t].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x",
                "spec.versions[0].schema.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total",
            ],
        ),
    ];
    for (schema, expected) in cases {
        let told = field_faults(schema.clone());
        assert_eq!(told.len(), expected.len(), "{schema}: {told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{schema}: {told}");
        }
    }
}

#[test]
fn a_pattern_that_cannot_be_compiled_is_refused() {
    let told = field_faults(json!({"type": "string", "pattern": "(((a{100}){100}){100}){100}"}));
    assert!(told[0].starts_with(".pattern: Invalid value"), "{told:?}");
}

#[test]
fn faults_around_the_schema_are_told() {
    let cases: Vec<(&str, Value, &str)> = vec![
        (
            "/metadata/name",
            json!("x"),
            r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#,
        ),
        (
            "/spec/group",
            json!("com"),
            r#"spec.group: Invalid value: "com": should be a domain with at least one dot"#,
        ),
        (
            "/spec/scope",
            json!("World"),
            r#"spec.scope: Unsupported value: "World": supported values: "Cluster", "Namespaced""#,
        ),
        (
            "/spec/names/kind",
            json!("My Kind"),
            r#"spec.names.kind: Invalid value: "My Kind": may have mixed case"#,
        ),
        (
            "/spec/names/plural",
            json!("Widgets"),
            r#"spec.names.plural: Invalid value: "Widgets": a DNS-1035 label"#,
        ),
        (
            "/spec/names/listKind",
            json!("Widget"),
            "spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same",
        ),
        (
            "/spec/versions/0/storage",
            json!(false),
            r#"spec.versions: Invalid value: ["v1"]: must have exactly one version marked as storage version"#,
        ),
        (
            "/spec/versions/0/name",
            json!("1"),
            r#"spec.versions[0].name: Invalid value: "1": a DNS-1035 label"#,
        ),
        (
            "/spec/versions/0/schema",
            Value::Null,
            "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "text", "jsonPath": ".a["}]),
            r#"spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "text": must be one of boolean,date,integer,number,string"#,
        ),
        (
            "/spec/versions/0/subresources/scale/specReplicasPath",
            json!(".status.x"),
            r#"spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".status.x": should be a json path under .spec"#,
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.nope"}]),
            r#"spec.versions[0].selectableFields[0].jsonPath: Invalid value: ".spec.nope": must point to a field"#,
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Magic"}),
            r#"spec.conversion.strategy: Unsupported value: "Magic""#,
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook"}),
            "spec.conversion.webhook.clientConfig: Required value",
        ),
        (
            "/status/storedVersions",
            json!(["v0", "v1"]),
            r#"status.storedVersions[0]: Invalid value: "v0": missing from spec.versions"#,
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/metadata",
            json!({"type": "object", "properties": {"labels": {"type": "object"}}}),
            "spec.versions[0].schema.openAPIV3Schema.properties[metadata]: Forbidden: must not specify anything other than name and generateName",
        ),
    ];
    for (pointer, value, expected) in cases {
        let mut crd = crd(field(json!({"type": "string"})));
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        crd.pointer_mut(parent).unwrap()[key] = value;
        let told = faults(&crd);
        assert!(
            told.iter().any(|cause| cause.starts_with(expected)),
            "{pointer}: {told:?}"
        );
    }
}

#[test]
fn a_group_of_kubernetes_own_needs_its_approval() {
    let mut crd = crd(field(json!({"type": "string"})));
    crd["spec"]["group"] = json!("x.k8s.io");
    crd["metadata"]["name"] = json!("widgets.x.k8s.io");
    let told = faults(&crd);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("metadata.annotations[api-approved.kubernetes.io]: Required value"),
        "{told:?}"
    );
    crd["metadata"]["annotations"] =
        json!({"api-approved.kubernetes.io": "unapproved, experimental-only"});
    assert_eq!(faults(&crd), [""; 0]);
}

#[test]
fn names_that_others_have_are_not_accepted_and_the_kind_is_not_established() {
    let crd = crd(field(json!({"type": "string"})));
    let accepted = status(&crd, &Taken::default(), "2026-01-01T00:00:00Z");
    assert_eq!(accepted["acceptedNames"]["plural"], "widgets");
    assert_eq!(
        accepted["conditions"],
        json!([
            {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ])
    );
    let mut taken = Taken::default();
    taken.add(&Names {
        plural: "gadgets".into(),
        short_names: vec!["wd".into()],
        ..Names::default()
    });
    let refused = status(&crd, &taken, "2026-01-01T00:00:00Z");
    assert_eq!(refused["conditions"][0]["reason"], "ShortNamesConflict");
    assert_eq!(
        refused["conditions"][0]["message"],
        r#""wd" is already in use"#
    );
    assert_eq!(refused["conditions"][1]["status"], "False");

    let mut established = crd;
    established["status"] = accepted;
    let later = status(&established, &taken, "2026-02-02T00:00:00Z");
    assert_eq!(later["conditions"][0]["status"], "False");
    assert_eq!(later["conditions"][1]["status"], "True");
    assert_eq!(
        later["conditions"][1]["lastTransitionTime"],
        "2026-01-01T00:00:00Z"
    );
}

#[test]
fn what_objects_are_found_by_cannot_change_once_established() {
    let mut old = crd(field(json!({"type": "string"})));
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    assert_eq!(validate(&new, Some(&old)), []);
    old["status"] = status(&old, &Taken::default(), "2026-01-01T00:00:00Z");
    let told: Vec<String> = validate(&new, Some(&old))
        .iter()
        .map(Cause::to_string)
        .collect();
    assert_eq!(
        told,
        [r#"spec.scope: Invalid value: "Cluster": field is immutable"#]
    );
}

#[test]
fn an_object_is_pruned_defaulted_and_validated() {
    let crd = crd(
        json!({"type": "object", "required": ["spec"], "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
        "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 1, "maximum": 9}},
            "x-kubernetes-validations": [{"rule": "self.size != 7", "message": "not 7"}]},
    }, "x-kubernetes-validations": [{"rule": "self.metadata.name != 'bad'", "message": "bad name"}]}),
    );
    assert_eq!(faults(&crd), [""; 0]);
    let definition = Definition::parse(&crd).unwrap();
    let version = definition.version("v1").unwrap();
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "a", "labels": {"x": "y"}, "nope": 1}, "spec": {"colour": "red"}, "extra": {}});
    assert_eq!(
        version.prune(&mut object),
        ["extra", "metadata.nope", "spec.colour"]
    );
    version.default(&mut object);
    assert_eq!(object["spec"], json!({"size": 1}));
    assert_eq!(version.validate(&object, None), []);
    for (pointer, value, expected) in [
        (
            "/spec/size",
            json!(7),
            r#"spec: Invalid value: "object": not 7"#,
        ),
        (
            "/spec/size",
            json!(10),
            "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9",
        ),
        (
            "/metadata/name",
            json!("bad"),
            r#"<nil>: Invalid value: "object": bad name"#,
        ),
        (
            "/metadata/name",
            json!("longer"),
            "metadata.name: Too long: may not be more than 5 bytes",
        ),
        (
            "/metadata/labels/x",
            json!(1),
            r#"metadata.labels.x: Invalid value: "integer": metadata.labels.x in body must be of type string: "integer""#,
        ),
    ] {
        let mut object = object.clone();
        *object.pointer_mut(pointer).unwrap() = value;
        let told: Vec<String> = version
            .validate(&object, None)
            .iter()
            .map(Cause::to_string)
            .collect();
        assert_eq!(told, [expected]);
    }
}

/// A schema whose objects nest so deep.
fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}}),
    )
}

#[test]
fn a_schema_nests_as_deep_as_a_body_can_and_no_deeper() {
    // Threads of a server have 2 MiB of stack, and so have those of tests.
    let deep = crd(nested(46));
    let (read, _) = crate::schema::parse_strict(deep.to_string().as_bytes()).unwrap();
    assert_eq!(faults(&read), [""; 0]);
    let definition = Definition::parse(&read).unwrap();
    let mut object = (0..46).fold(json!("x"), |inner, _| json!({"a": inner, "b": 1}));
    let version = definition.storage().unwrap();
    assert_eq!(version.prune(&mut object).len(), 46);
    version.default(&mut object);
    assert_eq!(version.validate(&object, None), []);

    let told = faults(&crd(nested(70)));
    assert!(
        told.iter()
            .any(|cause| cause.ends_with("schemas may not nest deeper than 60")),
        "{told:?}"
    );
}

proptest! {
    #[test]
    fn a_definition_broken_anywhere_is_refused_not_fallen_over(
        at in any::<prop::sample::Index>(),
        junk in prop::sample::select(vec![json!(null), json!([]), json!({}), json!("x"), json!(-1), json!([[{}]]), json!({"type": {}})]),
    ) {
        let mut crd = crd(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
            "m": {"type": "object", "additionalProperties": {"type": "string", "default": "x"}},
            "o": {"type": "string", "maxLength": 3, "anyOf": [{"pattern": "a"}], "x-kubernetes-validations": [{"rule": "self != 'a'"}]},
        }}}}));
        let mut places = Vec::new();
        pointers(&crd, String::new(), &mut places);
        let place = at.get(&places).clone();
        *crd.pointer_mut(&place).unwrap() = junk;
        default(&mut crd);
        let _ = validate(&crd, None);
        if let Ok(definition) = Definition::parse(&crd) {
            for version in &definition.versions {
                let mut object = json!({"spec": {"l": [{"k": "a"}], "m": {"a": "b"}, "o": "a"}});
                version.prune(&mut object);
                version.default(&mut object);
                let _ = version.validate(&object, None);
            }
        }
    }
}

/// Every place in a document.
fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                pointers(
                    field,
                    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    into,
                );
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, format!("{at}/{index}"), into);
            }
        }
        _ => {}
    }
    into.push(at);
}
