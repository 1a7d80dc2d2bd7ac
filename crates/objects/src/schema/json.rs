//! Schemas as JSON: read from a CRD or another OpenAPI source, written for OpenAPI.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Additional, ListType, Rule, Schema, Strategy, Type};

impl Schema {
    /// Reads a `JSONSchemaProps`.
    ///
    /// It takes what it understands and passes over the rest; whether a schema is
    /// acceptable in a CRD is another question, answered by [`crate::crd::validate()`].
    pub fn from_json(json: &Value) -> Schema {
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or(false);
        let count = |key: &str| json.get(key).and_then(Value::as_u64);
        let number = |key: &str| json.get(key).and_then(Value::as_f64);
        Schema {
            name: None,
            description: text("description"),
            kind: kind_of(json),
            properties: properties_of(json),
            additional: match json.get("additionalProperties") {
                Some(Value::Bool(true)) => Additional::Any,
                Some(of @ Value::Object(_)) => Additional::Of(Arc::new(Schema::from_json(of))),
                _ => Additional::None,
            },
            items: json
                .get("items")
                .filter(|items| items.is_object())
                .map(|items| Arc::new(Self::from_json(items))),
            required: strings(json.get("required")),
            default: json.get("default").cloned(),
            nullable: flag("nullable"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            list_type: match text("x-kubernetes-list-type").as_deref() {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map(strings(json.get("x-kubernetes-list-map-keys"))),
                _ => ListType::Atomic,
            },
            atomic_map: text("x-kubernetes-map-type").as_deref() == Some("atomic"),
            strategy: strategy_of(json),
            allowed: json.get("enum").and_then(Value::as_array).cloned(),
            format: text("format"),
            minimum: number("minimum"),
            maximum: number("maximum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: text("pattern"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of: branches(json, "allOf"),
            any_of: branches(json, "anyOf"),
            one_of: branches(json, "oneOf"),
            not: json.get("not").map(|not| Arc::new(Self::from_json(not))),
            rules: list(json, "x-kubernetes-validations")
                .iter()
                .map(rule_of)
                .collect(),
            reference: None,
        }
    }

    /// Writes the schema for OpenAPI. `refer` turns the name of a type into a reference to it.
    ///
    /// A part that has a name becomes a reference; the schema itself is written out even
    /// if it has one.
    pub fn to_json(&self, refer: &dyn Fn(&str) -> String) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                out.insert(key.to_owned(), value);
            }
        };
        let part = |schema: &Schema| schema.to_part(refer);
        let parts = |schemas: &[Arc<Schema>]| {
            (!schemas.is_empty()).then(|| schemas.iter().map(|one| part(one)).collect::<Value>())
        };
        let yes = |flag: bool| flag.then_some(Value::Bool(true));

        put("description", self.description.clone().map(Value::from));
        put("type", self.kind.name().map(Value::from));
        put("format", self.format.clone().map(Value::from));
        put("default", self.default.clone());
        put("nullable", yes(self.nullable));
        put("enum", self.allowed.clone().map(Value::from));
        put("minimum", self.minimum.map(tidy));
        put("maximum", self.maximum.map(tidy));
        put("exclusiveMinimum", yes(self.exclusive_minimum));
        put("exclusiveMaximum", yes(self.exclusive_maximum));
        put("multipleOf", self.multiple_of.map(tidy));
        put("minLength", self.min_length.map(Value::from));
        put("maxLength", self.max_length.map(Value::from));
        put("pattern", self.pattern.clone().map(Value::from));
        put("minItems", self.min_items.map(Value::from));
        put("maxItems", self.max_items.map(Value::from));
        put("uniqueItems", yes(self.unique_items));
        put("minProperties", self.min_properties.map(Value::from));
        put("maxProperties", self.max_properties.map(Value::from));
        put(
            "required",
            (!self.required.is_empty()).then(|| json!(self.required)),
        );
        put("items", self.items.as_deref().map(part));
        if !self.properties.is_empty() {
            let fields: Map<String, Value> = self
                .properties
                .iter()
                .map(|(name, field)| (name.clone(), part(field)))
                .collect();
            put("properties", Some(Value::Object(fields)));
        }
        put(
            "additionalProperties",
            match &self.additional {
                Additional::None => None,
                Additional::Any => Some(Value::Bool(true)),
                Additional::Of(of) => Some(part(of)),
            },
        );
        put("allOf", parts(&self.all_of));
        put("anyOf", parts(&self.any_of));
        put("oneOf", parts(&self.one_of));
        put("not", self.not.as_deref().map(part));
        self.put_extensions(&mut out);
        Value::Object(out)
    }

    /// The schema where it stands inside another: by reference if it has a name.
    fn to_part(&self, refer: &dyn Fn(&str) -> String) -> Value {
        let Some(name) = self.reference.as_ref().or(self.name.as_ref()) else {
            return self.to_json(refer);
        };
        let mut out = Map::new();
        // A reference may have no siblings in OpenAPI, hence allOf around it.
        out.insert("allOf".into(), json!([{"$ref": refer(name)}]));
        if let Some(description) = &self.description {
            out.insert("description".into(), json!(description));
        }
        if let Some(default) = &self.default {
            out.insert("default".into(), default.clone());
        }
        self.put_strategy(&mut out);
        if out.len() == 1 {
            return json!({"$ref": refer(name)});
        }
        Value::Object(out)
    }

    fn put_extensions(&self, out: &mut Map<String, Value>) {
        if self.kind == Type::IntOrString {
            out.insert("x-kubernetes-int-or-string".into(), json!(true));
        }
        if self.preserve_unknown {
            out.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
        }
        if self.embedded_resource {
            out.insert("x-kubernetes-embedded-resource".into(), json!(true));
        }
        match &self.list_type {
            ListType::Atomic if self.kind == Type::Array && !self.strategy.merge => {
                out.insert("x-kubernetes-list-type".into(), json!("atomic"));
            }
            ListType::Atomic => {}
            ListType::Set => {
                out.insert("x-kubernetes-list-type".into(), json!("set"));
            }
            ListType::Map(keys) => {
                out.insert("x-kubernetes-list-type".into(), json!("map"));
                out.insert("x-kubernetes-list-map-keys".into(), json!(keys));
            }
        }
        if self.atomic_map {
            out.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        self.put_strategy(out);
        if !self.rules.is_empty() {
            out.insert(
                "x-kubernetes-validations".into(),
                self.rules.iter().map(rule_to_json).collect(),
            );
        }
    }

    fn put_strategy(&self, out: &mut Map<String, Value>) {
        let strategy = match (self.strategy.merge, self.strategy.retain_keys) {
            (true, true) => Some("merge,retainKeys"),
            (true, false) => Some("merge"),
            (false, true) => Some("retainKeys"),
            (false, false) => None,
        };
        if let Some(strategy) = strategy {
            out.insert("x-kubernetes-patch-strategy".into(), json!(strategy));
        }
        if let Some(key) = &self.strategy.merge_key {
            out.insert("x-kubernetes-patch-merge-key".into(), json!(key));
        }
    }
}

impl Type {
    /// The name in JSON Schema; `None` where any type fits or more than one.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Any | Self::IntOrString => None,
            Self::Object => Some("object"),
            Self::Array => Some("array"),
            Self::String => Some("string"),
            Self::Integer => Some("integer"),
            Self::Number => Some("number"),
            Self::Boolean => Some("boolean"),
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Type> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

fn kind_of(json: &Value) -> Type {
    let flag = |key: &str| json.get(key).and_then(Value::as_bool) == Some(true);
    if flag("x-kubernetes-int-or-string") {
        return Type::IntOrString;
    }
    match json.get("type").and_then(Value::as_str) {
        Some(name) => Type::from_name(name).unwrap_or_default(),
        None => Type::Any,
    }
}

fn properties_of(json: &Value) -> BTreeMap<String, Arc<Schema>> {
    let Some(fields) = json.get("properties").and_then(Value::as_object) else {
        return BTreeMap::new();
    };
    fields
        .iter()
        .map(|(name, field)| (name.clone(), Arc::new(Schema::from_json(field))))
        .collect()
}

fn strategy_of(json: &Value) -> Strategy {
    let named = json
        .get("x-kubernetes-patch-strategy")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Strategy {
        merge_key: json
            .get("x-kubernetes-patch-merge-key")
            .and_then(Value::as_str)
            .map(str::to_owned),
        merge: named.split(',').any(|one| one == "merge"),
        retain_keys: named.split(',').any(|one| one == "retainKeys"),
    }
}

fn rule_of(json: &Value) -> Rule {
    let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    Rule {
        rule: text("rule").unwrap_or_default(),
        message: text("message"),
        message_expression: text("messageExpression"),
        field_path: text("fieldPath"),
        reason: text("reason"),
        optional_old_self: json
            .get("optionalOldSelf")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    }
}

fn rule_to_json(rule: &Rule) -> Value {
    let mut out = Map::new();
    out.insert("rule".into(), json!(rule.rule));
    let optional = [
        ("message", &rule.message),
        ("messageExpression", &rule.message_expression),
        ("fieldPath", &rule.field_path),
        ("reason", &rule.reason),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            out.insert(key.into(), json!(value));
        }
    }
    if rule.optional_old_self {
        out.insert("optionalOldSelf".into(), json!(true));
    }
    Value::Object(out)
}

fn branches(json: &Value, key: &str) -> Vec<Arc<Schema>> {
    list(json, key)
        .iter()
        .map(|one| Arc::new(Schema::from_json(one)))
        .collect()
}

fn list<'j>(json: &'j Value, key: &str) -> &'j [Value] {
    json.get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn strings(json: Option<&Value>) -> Vec<String> {
    json.and_then(Value::as_array)
        .map(|list| {
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default()
}

/// Writes 3.0 as 3, as it was most likely given.
fn tidy(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_reads_back_as_it_was_written() {
        let json = json!({
            "description": "all of it", "type": "object", "required": ["a"],
            "properties": {
                "a": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 2.5, "default": 1},
                "b": {"x-kubernetes-int-or-string": true, "nullable": true},
                "c": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "x-kubernetes-patch-strategy": "merge,retainKeys", "x-kubernetes-patch-merge-key": "k",
                    "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
                "d": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 4, "pattern": "^a"}},
                "e": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "x-kubernetes-embedded-resource": true},
                "f": {"type": "string", "enum": ["x", "y"], "not": {"enum": ["z"]}},
            },
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
            "x-kubernetes-map-type": "atomic",
            "x-kubernetes-validations": [{"rule": "self.a > 0", "message": "no", "optionalOldSelf": true}],
        });
        let schema = Schema::from_json(&json);
        assert_eq!(schema.to_json(&|name| name.to_owned()), json);
    }
}
