//! Whether a schema is structural: complete, unambiguous and safe to prune by.
//!
//! It works on the JSON of the schema, since what is forbidden must be seen to be refused.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    cel::{self, estimate},
    schema::{self, Cause, Path, Schema, Type, pattern},
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
/// Keywords that may not stand inside `allOf`, `anyOf`, `oneOf` and `not`.
const NOT_NESTED: &[&str] = &[
    "description",
    "title",
    "default",
    "additionalProperties",
    "nullable",
    "type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
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

    fn list(&mut self, path: &Path, fields: &Map<String, Value>) {
        let keys_at = path.field("x-kubernetes-list-map-keys");
        let keys = fields.get("x-kubernetes-list-map-keys");
        let Some(list_type) = fields.get("x-kubernetes-list-type") else {
            if let Some(keys) = keys {
                let detail = "must be empty if x-kubernetes-list-type is not map";
                self.invalid(keys_at, keys, detail);
            }
            return;
        };
        if !matches!(list_type.as_str(), Some("atomic" | "set" | "map")) {
            let at = path.field("x-kubernetes-list-type");
            self.causes.push(Cause::not_supported(
                at,
                list_type,
                &["atomic", "set", "map"],
            ));
            return;
        }
        if fields.get("type").is_none_or(|kind| kind != "array") {
            let kind = fields.get("type").cloned().unwrap_or_default();
            self.invalid(
                path.field("type"),
                &kind,
                "must be array if x-kubernetes-list-type is specified",
            );
            return;
        }
        let items = fields.get("items").unwrap_or(&Value::Null);
        match list_type.as_str() {
            Some("map") => self.map_list(path, keys, items),
            Some("set") => self.set_list(path, items),
            _ => {}
        }
        if list_type != "map"
            && let Some(keys) = keys
        {
            self.invalid(
                keys_at,
                keys,
                "must be empty if x-kubernetes-list-type is not map",
            );
        }
    }

    fn set_list(&mut self, path: &Path, items: &Value) {
        let items_at = path.field("items");
        if items["nullable"] == true {
            self.forbid(
                items_at.field("nullable"),
                "cannot be nullable when x-kubernetes-list-type is set",
            );
        }
        if items["type"] == "array"
            && items
                .get("x-kubernetes-list-type")
                .is_some_and(|kind| kind != "atomic")
        {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            self.invalid(
                items_at.field("x-kubernetes-list-type"),
                &items["x-kubernetes-list-type"],
                detail,
            );
        }
        if items["type"] == "object" && items["x-kubernetes-map-type"] != "atomic" {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            self.invalid(
                items_at.field("x-kubernetes-map-type"),
                &items["x-kubernetes-map-type"],
                detail,
            );
        }
    }

    fn map_list(&mut self, path: &Path, keys: Option<&Value>, items: &Value) {
        let keys_at = path.field("x-kubernetes-list-map-keys");
        let keys = keys
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.causes.push(Cause::required(keys_at, detail));
            return;
        }
        if items["type"] != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.invalid(path.field("items").field("type"), &items["type"], detail);
            return;
        }
        let required = items["required"].as_array().map_or(&[][..], Vec::as_slice);
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].contains(key) {
                self.causes
                    .push(Cause::duplicate(keys_at.index(index), key));
                continue;
            }
            let name = key.as_str().unwrap_or_default();
            let Some(property) = items["properties"].get(name) else {
                self.invalid(
                    keys_at.index(index),
                    key,
                    "entries must all be names of item properties",
                );
                continue;
            };
            let at = path.field("items").field("properties").key(name);
            if matches!(property["type"].as_str(), Some("array" | "object")) {
                self.invalid(
                    at.field("type"),
                    &property["type"],
                    "must be a scalar type if parent array's x-kubernetes-list-type is map",
                );
            }
            if !required.contains(key) && property.get("default").is_none() {
                self.causes.push(Cause::required(
                    at.field("default"),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                ));
            }
            if property["nullable"] == true {
                self.forbid(
                    at.field("nullable"),
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                );
            }
        }
    }

    /// A default must itself be a valid value.
    fn default(&mut self, path: &Path, json: &Value) {
        let Some(default) = json.get("default") else {
            return;
        };
        let at = path.field("default");
        let of = Schema::from_json(json);
        let mut pruned = default.clone();
        let unknown = schema::prune(&of, &mut pruned);
        if !unknown.is_empty() {
            let detail = format!("must not have unknown fields: {}", unknown.join(", "));
            self.invalid(at, default, &detail);
            return;
        }
        schema::default(&of, &mut pruned);
        self.causes.extend(schema::validate_at(&at, &of, &pruned));
    }

    fn rules(&mut self, path: &Path, json: &Value, place: Place) {
        let Some(rules) = json.get("x-kubernetes-validations") else {
            return;
        };
        let at = path.field("x-kubernetes-validations");
        let mut of = Schema::from_json(json);
        if place.role == Role::Root || of.embedded_resource {
            add_visible_fields(&mut of);
        }
        for (index, rule) in rules
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .enumerate()
        {
            let place = cel::Place {
                schema: &of,
                count: place.count,
                correlatable: place.correlatable,
            };
            let (causes, cost) = cel::check_rule(&at.index(index), rule, place);
            self.causes.extend(causes);
            self.cost = self.cost.saturating_add(cost);
        }
    }

    /// The combinations of a schema. `outer` is the description, outside of all
    /// combinations, of the same value, and where it stands.
    fn branches(
        &mut self,
        path: &Path,
        fields: &Map<String, Value>,
        outer: (&Path, &Value),
        depth: usize,
    ) {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for (index, branch) in array(fields, keyword).iter().enumerate() {
                self.nested(&path.field(keyword).index(index), branch, outer, depth + 1);
            }
        }
        if let Some(not) = fields.get("not") {
            self.nested(&path.field("not"), not, outer, depth + 1);
        }
    }

    /// A branch of a combination only restricts; what it names must be described outside.
    fn nested(&mut self, path: &Path, json: &Value, outer: (&Path, &Value), depth: usize) {
        let Some(fields) = json.as_object() else {
            self.invalid(path.clone(), json, "must be a schema");
            return;
        };
        if self.causes.len() >= MAX_CAUSES || depth > MAX_DEPTH {
            return;
        }
        self.keywords(path, fields);
        let (outer_path, described) = outer;
        let several_types = described["x-kubernetes-int-or-string"] == true;
        for keyword in NOT_NESTED
            .iter()
            .filter(|&&keyword| fields.contains_key(keyword))
        {
            if *keyword == "type"
                && several_types
                && matches!(fields["type"].as_str(), Some("integer" | "string"))
            {
                continue;
            }
            self.forbid(path.field(keyword), "must be empty to be structural");
        }
        for (name, property) in object(fields, "properties") {
            let at = path.field("properties").key(name);
            let outside = outer_path.field("properties").key(name);
            match described["properties"].get(name) {
                Some(described) => self.nested(&at, property, (&outside, described), depth + 1),
                None => self.undescribed(outside, &at),
            }
        }
        if let Some(items) = fields.get("items") {
            let (at, outside) = (path.field("items"), outer_path.field("items"));
            match described.get("items") {
                Some(described) => self.nested(&at, items, (&outside, described), depth + 1),
                None => self.undescribed(outside, &at),
            }
        }
        self.branches(path, fields, outer, depth);
    }

    /// Points at the place, outside of combinations, where a description is missing.
    fn undescribed(&mut self, place: Path, at: &Path) {
        self.causes.push(Cause::required(
            place,
            format!("because it is defined in {at}"),
        ));
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

/// What a rule can see of every object beside what its schema describes.
fn add_visible_fields(schema: &mut Schema) {
    let text = || {
        Arc::new(Schema {
            kind: Type::String,
            ..Schema::default()
        })
    };
    let names = ["name", "generateName"].map(|name| (name.to_owned(), text()));
    let metadata = Schema {
        kind: Type::Object,
        properties: names.into(),
        ..Schema::default()
    };
    for name in ["apiVersion", "kind"] {
        schema.properties.insert(name.to_owned(), text());
    }
    schema
        .properties
        .insert("metadata".to_owned(), Arc::new(metadata));
}
