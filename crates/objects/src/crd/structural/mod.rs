//! Whether a schema is structural: complete, unambiguous and safe to prune by.
//!
//! It works on the JSON of the schema, since what is forbidden must be seen to be refused.

mod branches;
mod lists;
mod values;

use serde_json::{Map, Value};

use crate::{
    cel::estimate,
    schema::{Cause, Path, Schema, pattern},
};

/// How many faults are told.
const MAX_CAUSES: usize = 100;
/// How deep a schema may nest.
const MAX_DEPTH: usize = 60;
/// Keywords that a structural schema may not use at all.
const UNSUPPORTED: &[&str] = &[
    "$ref",
    "$schema",
    "additionalItems",
    "definitions",
    "dependencies",
    "id",
    "patternProperties",
];
const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Tells what keeps a schema from being structural.
pub(super) fn check(path: &Path, json: &Value) -> Vec<Cause> {
    let mut checks = Checks {
        causes: Vec::new(),
        cost: 0,
    };
    checks.root(path, json);
    if let Some(detail) = estimate::excess(
        checks.cost,
        estimate::TOTAL_LIMIT,
        "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema",
    ) {
        checks.causes.push(Cause::forbidden(path, detail));
    }
    checks.causes
}

struct Checks {
    causes: Vec<Cause>,
    /// What all CEL rules so far may cost.
    cost: u64,
}

/// What a schema is for, which decides why it must have a type.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Root,
    Field,
    Item,
}

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Place {
    role: Role,
    depth: usize,
    /// How many values of this schema one object has at most.
    count: u64,
    /// Whether a value's counterpart in an old object can be told.
    correlatable: bool,
}

impl Place {
    fn below(self, role: Role) -> Place {
        Place {
            role,
            depth: self.depth + 1,
            ..self
        }
    }
}

impl Checks {
    fn forbid(&mut self, path: Path, detail: &str) {
        self.causes.push(Cause::forbidden(path, detail));
    }

    fn invalid(&mut self, path: Path, value: &Value, detail: &str) {
        self.causes.push(Cause::invalid(path, value, detail));
    }

    fn root(&mut self, path: &Path, json: &Value) {
        if !json.is_object() {
            self.causes
                .push(Cause::required(path, "schemas are required"));
            return;
        }
        if json.get("nullable") == Some(&Value::Bool(true)) {
            self.forbid(
                path.field("nullable"),
                "nullable cannot be true at the root",
            );
        }
        self.schema(
            path,
            json,
            Place {
                role: Role::Root,
                depth: 0,
                count: 1,
                correlatable: true,
            },
        );
        let properties = path.field("properties");
        for name in ["apiVersion", "kind"] {
            if let Some(own) = json["properties"].get(name)
                && own["type"] != "string"
            {
                self.invalid(
                    properties.key(name).field("type"),
                    &own["type"],
                    "must be string",
                );
            }
        }
        self.metadata(&properties.key("metadata"), &json["properties"]["metadata"]);
    }

    /// `metadata` is given by Kubernetes; a definition may only restrict the names in it.
    fn metadata(&mut self, path: &Path, json: &Value) {
        let Some(fields) = json.as_object() else {
            return;
        };
        if json["type"] != "object" {
            self.invalid(path.field("type"), &json["type"], "must be object");
        }
        let named = |name: &String| matches!(name.as_str(), "name" | "generateName");
        let only_names = json["properties"]
            .as_object()
            .is_none_or(|fields| fields.keys().all(named));
        let plain = fields
            .keys()
            .all(|key| matches!(key.as_str(), "type" | "description" | "properties"));
        if !(only_names && plain) {
            self.forbid(
                path.clone(),
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            );
        }
    }

    fn schema(&mut self, path: &Path, json: &Value, place: Place) {
        let Some(fields) = json.as_object() else {
            self.invalid(path.clone(), json, "must be a schema");
            return;
        };
        if self.causes.len() >= MAX_CAUSES {
            return;
        }
        if place.depth > MAX_DEPTH {
            self.forbid(
                path.clone(),
                &format!("schemas may not nest deeper than {MAX_DEPTH}"),
            );
            return;
        }
        self.keywords(path, fields);
        self.kind(path, fields, place.role);
        self.extensions(path, fields);
        self.list(path, fields);
        self.default(path, json);
        self.rules(path, json, place);
        self.children(path, fields, place);
        self.branches(path, fields, (path, json), place.depth);
    }

    fn children(&mut self, path: &Path, fields: &Map<String, Value>, place: Place) {
        for (name, property) in object(fields, "properties") {
            self.schema(
                &path.field("properties").key(name),
                property,
                place.below(Role::Field),
            );
        }
        // How many items or values there are at most is asked only where it can matter.
        let each = |role| {
            let own = Value::Object(fields.clone());
            let count = place
                .count
                .saturating_mul(estimate::most(&Schema::from_json(&own)));
            Place {
                count,
                ..place.below(role)
            }
        };
        if let Some(items) = fields.get("items") {
            if items.is_array() {
                self.forbid(
                    path.field("items"),
                    "items must be a schema object and not an array",
                );
            } else {
                let keyed = fields
                    .get("x-kubernetes-list-type")
                    .is_some_and(|kind| kind == "map");
                let below = each(Role::Item);
                let correlatable = below.correlatable && keyed;
                self.schema(
                    &path.field("items"),
                    items,
                    Place {
                        correlatable,
                        ..below
                    },
                );
            }
        }
        match fields.get("additionalProperties") {
            Some(Value::Bool(false)) => {
                self.forbid(
                    path.field("additionalProperties"),
                    "additionalProperties cannot be set to false",
                );
            }
            Some(of @ Value::Object(_)) => {
                self.schema(&path.field("additionalProperties"), of, each(Role::Field));
            }
            _ => {}
        }
        if fields.contains_key("additionalProperties")
            && fields.get("properties").is_some_and(not_empty)
        {
            self.forbid(
                path.field("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
    }

    fn keywords(&mut self, path: &Path, fields: &Map<String, Value>) {
        for keyword in UNSUPPORTED
            .iter()
            .filter(|&&keyword| fields.contains_key(keyword))
        {
            self.forbid(path.field(keyword), &format!("{keyword} is not supported"));
        }
        if is_true(fields, "uniqueItems") {
            self.forbid(
                path.field("uniqueItems"),
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
        self.expression(path, fields);
    }

    fn expression(&mut self, path: &Path, fields: &Map<String, Value>) {
        if let Some(Value::String(expression)) = fields.get("pattern")
            && let Err(error) = pattern::compile(expression)
        {
            let detail = format!("must be a valid regular expression, but isn't: {error}");
            self.invalid(
                path.field("pattern"),
                &Value::from(expression.as_str()),
                &detail,
            );
        }
    }

    /// Every schema has a type, save those that take several.
    fn kind(&mut self, path: &Path, fields: &Map<String, Value>, role: Role) {
        let at = path.field("type");
        let kind = fields
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !kind.is_empty() && !TYPES.contains(&kind) {
            self.causes
                .push(Cause::not_supported(at, &Value::from(kind), TYPES));
            return;
        }
        if is_true(fields, "x-kubernetes-int-or-string") {
            if !kind.is_empty() {
                self.invalid(
                    at,
                    &Value::from(kind),
                    "must be empty if x-kubernetes-int-or-string is true",
                );
            }
            return;
        }
        match (kind, role) {
            ("", Role::Root) => self
                .causes
                .push(Cause::required(at, "must not be empty at the root")),
            ("object", Role::Root) => {}
            (other, Role::Root) => {
                self.invalid(at, &Value::from(other), "must be object at the root")
            }
            ("", _) if is_true(fields, "x-kubernetes-preserve-unknown-fields") => {}
            ("", Role::Field) => {
                self.causes.push(Cause::required(
                    at,
                    "must not be empty for specified object fields",
                ));
            }
            ("", Role::Item) => {
                self.causes.push(Cause::required(
                    at,
                    "must not be empty for specified array items",
                ));
            }
            ("array", _) if !fields.contains_key("items") => {
                self.causes
                    .push(Cause::required(path.field("items"), "must be specified"));
            }
            _ => {}
        }
    }

    fn extensions(&mut self, path: &Path, fields: &Map<String, Value>) {
        const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
        if let Some(value) = fields.get(PRESERVE)
            && value != &Value::Bool(true)
        {
            self.invalid(path.field(PRESERVE), value, "must be true or undefined");
        }
        let is_object = fields.get("type").is_some_and(|kind| kind == "object");
        if is_true(fields, PRESERVE) && !is_object && fields.contains_key("type") {
            let detail = "must be object if x-kubernetes-preserve-unknown-fields is true";
            self.invalid(path.field("type"), &fields["type"], detail);
        }
        if is_true(fields, "x-kubernetes-embedded-resource") {
            if !is_object {
                let kind = fields.get("type").cloned().unwrap_or_default();
                let detail = "must be object if x-kubernetes-embedded-resource is true";
                self.invalid(path.field("type"), &kind, detail);
            }
            if !fields.get("properties").is_some_and(not_empty) && !is_true(fields, PRESERVE) {
                self.causes.push(Cause::required(
                    path.field("properties"),
                    "must not be empty if x-kubernetes-embedded-resource is true without \
                     x-kubernetes-preserve-unknown-fields",
                ));
            }
            self.metadata(
                &path.field("properties").key("metadata"),
                &fields
                    .get("properties")
                    .map_or(Value::Null, |p| p["metadata"].clone()),
            );
        }
        if let Some(map_type) = fields.get("x-kubernetes-map-type") {
            let at = path.field("x-kubernetes-map-type");
            if map_type != "granular" && map_type != "atomic" {
                self.causes
                    .push(Cause::not_supported(at, map_type, &["granular", "atomic"]));
            } else if !is_object {
                let kind = fields.get("type").cloned().unwrap_or_default();
                self.invalid(
                    path.field("type"),
                    &kind,
                    "must be object if x-kubernetes-map-type is specified",
                );
            }
        }
    }
}

fn is_true(fields: &Map<String, Value>, key: &str) -> bool {
    fields.get(key) == Some(&Value::Bool(true))
}

fn not_empty(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| !fields.is_empty())
}

fn array<'j>(fields: &'j Map<String, Value>, key: &str) -> &'j [Value] {
    fields
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn object<'j>(
    fields: &'j Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = (&'j String, &'j Value)> {
    fields
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}
