//! Holding a value against its schema, in Kubernetes' words.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    Additional, ListType, Schema, Type,
    cause::{Cause, quoted},
    format,
    lists::{self, Correlation},
    path::Path,
    pattern, resolve,
};

/// How many faults are told; an object that has more is not helped by a longer list.
const MAX_CAUSES: usize = 200;

/// Tells what is wrong with a value.
///
/// With the old value of an update, parts that did not change are not faulted: an object
/// that was accepted under an earlier schema can still be changed elsewhere.
pub fn validate(schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut checks = Checks {
        path: Path::root(),
        causes: Vec::new(),
    };
    checks.value(schema, value, old);
    checks.causes
}

/// Holds a value below `path` against a schema, with no old value.
pub fn validate_at(path: &Path, schema: &Schema, value: &Value) -> Vec<Cause> {
    let mut checks = Checks {
        path: path.clone(),
        causes: Vec::new(),
    };
    checks.value(schema, value, None);
    checks.causes
}

struct Checks {
    path: Path,
    causes: Vec<Cause>,
}

impl Checks {
    fn full(&self) -> bool {
        self.causes.len() >= MAX_CAUSES
    }

    fn invalid(&mut self, value: &Value, detail: impl std::fmt::Display) {
        let detail = format!("{} in body {detail}", self.path);
        self.causes.push(Cause::invalid(&self.path, value, detail));
    }

    fn value(&mut self, schema: &Schema, value: &Value, old: Option<&Value>) {
        let schema = resolve(schema);
        if self.full() || old == Some(value) || (value.is_null() && schema.nullable) {
            return;
        }
        if !self.has_type(schema, value) {
            return;
        }
        self.allowed(schema, value);
        match value {
            Value::String(text) => self.string(schema, text, value),
            Value::Number(number) => {
                self.number(schema, number.as_f64().unwrap_or(f64::NAN), value)
            }
            Value::Array(items) => self.array(schema, items, value, old),
            Value::Object(fields) => self.object(schema, fields, value, old),
            Value::Null | Value::Bool(_) => {}
        }
        self.branches(schema, value);
    }

    fn has_type(&mut self, schema: &Schema, value: &Value) -> bool {
        let found = type_name(value);
        let fits = match schema.kind {
            Type::Any => true,
            Type::IntOrString => matches!(found, "integer" | "string"),
            Type::Number => matches!(found, "integer" | "number"),
            other => other.name() == Some(found),
        };
        if !fits {
            let wanted = match schema.kind {
                Type::IntOrString => "integer,string",
                other => other.name().unwrap_or_default(),
            };
            let detail = format!(
                "{} in body must be of type {wanted}: {}",
                self.path,
                quoted(found)
            );
            self.causes
                .push(Cause::type_invalid(&self.path, &Value::from(found), detail));
        }
        fits
    }

    fn allowed(&mut self, schema: &Schema, value: &Value) {
        let Some(allowed) = &schema.allowed else {
            return;
        };
        if allowed.iter().any(|one| same(one, value)) {
            return;
        }
        let names: Vec<Cow<'_, str>> = allowed
            .iter()
            .map(|one| {
                one.as_str()
                    .map_or_else(|| Cow::Owned(one.to_string()), Cow::Borrowed)
            })
            .collect();
        self.causes
            .push(Cause::not_supported(&self.path, value, &names));
    }

    fn string(&mut self, schema: &Schema, text: &str, value: &Value) {
        let length = || text.chars().count() as u64;
        if let Some(most) = schema.max_length
            && length() > most
        {
            self.causes.push(Cause::too_long(&self.path, most));
        }
        if let Some(least) = schema.min_length
            && length() < least
        {
            self.invalid(value, format_args!("should be at least {least} chars long"));
        }
        if let Some(expression) = &schema.pattern {
            match pattern::compile(expression) {
                Ok(regex) if regex.is_match(text) => {}
                Ok(_) => self.invalid(value, format_args!("should match '{expression}'")),
                Err(error) => self.invalid(
                    value,
                    format_args!("should match '{expression}', but pattern is invalid: {error}"),
                ),
            }
        }
        if let Some(name) = &schema.format
            && schema.kind != Type::IntOrString
            && !format::matches(name, text)
        {
            let detail = format!(
                "{} in body must be of type {name}: {}",
                self.path,
                quoted(text)
            );
            self.causes
                .push(Cause::type_invalid(&self.path, value, detail));
        }
    }

    fn number(&mut self, schema: &Schema, number: f64, value: &Value) {
        if let Some(most) = schema.maximum
            && (number > most || (schema.exclusive_maximum && number >= most))
        {
            let word = if schema.exclusive_maximum {
                "less than"
            } else {
                "less than or equal to"
            };
            self.invalid(value, format_args!("should be {word} {most}"));
        }
        if let Some(least) = schema.minimum
            && (number < least || (schema.exclusive_minimum && number <= least))
        {
            let word = if schema.exclusive_minimum {
                "greater than"
            } else {
                "greater than or equal to"
            };
            self.invalid(value, format_args!("should be {word} {least}"));
        }
        if let Some(step) = schema.multiple_of
            && step > 0.0
            && ((number / step) - (number / step).round()).abs() > 1e-9
        {
            self.invalid(value, format_args!("should be a multiple of {step}"));
        }
        let fits = match schema.format.as_deref() {
            Some("int32") => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
            Some("int64") => value.as_i64().is_some() || number.abs() < 9.2e18,
            Some("float") => number.abs() <= f64::from(f32::MAX),
            _ => true,
        };
        if let (false, Some(name)) = (fits, &schema.format) {
            let detail = format!(
                "{} in body must be of type {name}: {}",
                self.path,
                quoted(&value.to_string())
            );
            self.causes
                .push(Cause::type_invalid(&self.path, value, detail));
        }
    }

    fn array(&mut self, schema: &Schema, items: &[Value], value: &Value, old: Option<&Value>) {
        if let Some(most) = schema.max_items
            && items.len() as u64 > most
        {
            self.causes
                .push(Cause::too_many(&self.path, items.len(), most));
        }
        if let Some(least) = schema.min_items
            && (items.len() as u64) < least
        {
            self.invalid(value, format_args!("should have at least {least} items"));
        }
        if schema.unique_items && !lists::repeated(items).is_empty() {
            self.invalid(value, "shouldn't contain duplicates");
        }
        self.list_type(&schema.list_type, items);
        let Some(of) = &schema.items else { return };
        let correlation = Correlation::new(&schema.list_type, old);
        for (index, item) in items.iter().enumerate() {
            if self.full() {
                return;
            }
            let mark = self.path.push_index(index);
            self.value(of, item, correlation.of(item));
            self.path.cut(mark);
        }
    }

    fn list_type(&mut self, list_type: &ListType, items: &[Value]) {
        let repeated = match list_type {
            ListType::Atomic => return,
            ListType::Set => lists::repeated(items),
            ListType::Map(keys) => lists::repeated_keys(items, keys),
        };
        for (index, shown) in repeated {
            if self.full() {
                return;
            }
            self.causes
                .push(Cause::duplicate(self.path.index(index), &shown));
        }
    }

    fn object(
        &mut self,
        schema: &Schema,
        fields: &serde_json::Map<String, Value>,
        value: &Value,
        old: Option<&Value>,
    ) {
        for name in &schema.required {
            if !fields.contains_key(name) {
                self.causes.push(Cause::required(self.path.field(name), ""));
            }
        }
        if let Some(most) = schema.max_properties
            && fields.len() as u64 > most
        {
            self.causes
                .push(Cause::too_many(&self.path, fields.len(), most));
        }
        if let Some(least) = schema.min_properties
            && (fields.len() as u64) < least
        {
            self.invalid(
                value,
                format_args!("should have at least {least} properties"),
            );
        }
        if schema.embedded_resource {
            self.embedded(fields);
        }
        for (name, field) in fields {
            let of = match (schema.properties.get(name), &schema.additional) {
                (Some(property), _) => property,
                (None, Additional::Of(of)) => of,
                _ => continue,
            };
            let mark = self.path.push(name);
            self.value(of, field, old.and_then(|old| old.get(name)));
            self.path.cut(mark);
        }
    }

    /// A whole object inside another one names its type.
    fn embedded(&mut self, fields: &serde_json::Map<String, Value>) {
        for name in ["apiVersion", "kind"] {
            match fields.get(name) {
                Some(Value::String(text)) if !text.is_empty() => {}
                Some(Value::String(_)) | None => {
                    self.causes
                        .push(Cause::required(self.path.field(name), "must not be empty"));
                }
                Some(other) => {
                    let cause =
                        Cause::type_invalid(self.path.field(name), other, "must be a string");
                    self.causes.push(cause);
                }
            }
        }
        if let Some(metadata) = fields.get("metadata")
            && !metadata.is_object()
        {
            self.causes.push(Cause::type_invalid(
                self.path.field("metadata"),
                metadata,
                "must be an object",
            ));
        }
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`.
    fn branches(&mut self, schema: &Schema, value: &Value) {
        for branch in &schema.all_of {
            let causes = self.trial(branch, value);
            if !causes.is_empty() {
                self.combined("must validate all the schemas (allOf)");
                self.causes.extend(causes);
            }
        }
        if !schema.any_of.is_empty() {
            let trials: Vec<_> = schema
                .any_of
                .iter()
                .map(|branch| self.trial(branch, value))
                .collect();
            if trials.iter().all(|causes| !causes.is_empty()) {
                self.combined("must validate at least one schema (anyOf)");
                self.nearest(trials);
            }
        }
        if !schema.one_of.is_empty() {
            let trials: Vec<_> = schema
                .one_of
                .iter()
                .map(|branch| self.trial(branch, value))
                .collect();
            match trials.iter().filter(|causes| causes.is_empty()).count() {
                1 => {}
                0 => {
                    self.combined("must validate one and only one schema (oneOf). Found none valid");
                    self.nearest(trials);
                }
                found => self.combined(&format!(
                    "must validate one and only one schema (oneOf). Found {found} valid alternatives"
                )),
            }
        }
        if let Some(not) = &schema.not
            && self.trial(not, value).is_empty()
        {
            self.combined("must not validate the schema (not)");
        }
    }

    fn trial(&self, schema: &Schema, value: &Value) -> Vec<Cause> {
        validate_at(&self.path, schema, value)
    }

    /// Names the faults of the branch that fits best.
    fn nearest(&mut self, trials: Vec<Vec<Cause>>) {
        if let Some(best) = trials.into_iter().min_by_key(Vec::len) {
            self.causes.extend(best);
        }
    }

    fn combined(&mut self, detail: &str) {
        let detail = format!("{} {detail}", quoted(self.path.as_str()));
        self.causes
            .push(Cause::invalid("", &Value::from(""), detail));
    }
}

/// The name of a value's JSON type; a number without a fraction is an integer.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
    }
}

/// Equality in which 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
