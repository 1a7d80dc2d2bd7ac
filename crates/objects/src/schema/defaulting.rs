//! Filling in the defaults that a schema gives.

use serde_json::{Map, Value};

use super::{Additional, Schema, Type, resolve};

/// Fills in defaults for absent fields; null in a field that may not be null counts as
/// absent and goes if there is no default.
pub fn default(schema: &Schema, value: &mut Value) {
    let schema = resolve(schema);
    match value {
        Value::Object(fields) => default_fields(schema, fields),
        Value::Array(items) => {
            let Some(of) = &schema.items else { return };
            for item in items {
                replace_null(of, item);
                default(of, item);
            }
        }
        _ => {}
    }
}

fn default_fields(schema: &Schema, fields: &mut Map<String, Value>) {
    fields.retain(|name, field| {
        let of = match (schema.properties.get(name), &schema.additional) {
            (Some(property), _) => property,
            (None, Additional::Of(of)) => of,
            _ => return true,
        };
        if !field.is_null() || allows_null(of) {
            return true;
        }
        replace_null(of, field);
        // Lists keep their nulls so that validation can point at them; fields just go.
        !field.is_null()
    });
    for (name, property) in &schema.properties {
        if let Some(default) = &property.default
            && !fields.contains_key(name)
        {
            fields.insert(name.clone(), default.clone());
        }
    }
    for (name, field) in fields.iter_mut() {
        match (schema.properties.get(name), &schema.additional) {
            (Some(property), _) => default(property, field),
            (None, Additional::Of(of)) => default(of, field),
            _ => {}
        }
    }
}

/// Drops fields that are null where that means that they are not set, as a reader with
/// types of its own does; in a map of texts it means the empty text.
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    let schema = resolve(schema);
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| {
                let property = schema.properties.get(name);
                !field.is_null() || property.is_none_or(|of| allows_null(resolve(of)))
            });
            for (name, field) in fields.iter_mut() {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => drop_nulls(property, field),
                    (None, Additional::Of(of)) if field.is_null() && is_text(of) => {
                        *field = Value::from("");
                    }
                    (None, Additional::Of(of)) => drop_nulls(of, field),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(of) = &schema.items else { return };
            items.iter_mut().for_each(|item| drop_nulls(of, item));
        }
        _ => {}
    }
}

fn is_text(schema: &Schema) -> bool {
    resolve(schema).kind == Type::String && !schema.nullable
}

fn allows_null(schema: &Schema) -> bool {
    schema.nullable || (schema.kind == Type::Any && schema.preserve_unknown)
}

fn replace_null(schema: &Schema, value: &mut Value) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_means_that_a_field_is_not_set() {
        let schema = crate::builtin::schema("io.k8s.api.core.v1.Event").unwrap();
        let mut event = json!({
            "eventTime": null, "series": null, "count": 1,
            "metadata": {"creationTimestamp": null, "labels": {"a": null, "b": "c"}},
            "source": {"host": null},
        });
        drop_nulls(schema, &mut event);
        let expected = json!({
            "count": 1, "metadata": {"labels": {"a": "", "b": "c"}}, "source": {},
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": {
            "replicas": {"type": "integer", "default": 1},
            "mode": {"type": "string", "default": "A", "nullable": true},
            "size": {"type": "integer"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {
                "v": {"type": "integer", "default": 7}}}},
        }}}});
        let schema = Schema::from_json(&schema);
        let cases = [
            (json!({}), json!({"spec": {"replicas": 1, "mode": "A"}})),
            (
                json!({"spec": {"replicas": null}}),
                json!({"spec": {"replicas": 1, "mode": "A"}}),
            ),
            (
                json!({"spec": {"mode": null}}),
                json!({"spec": {"replicas": 1, "mode": null}}),
            ),
            (
                json!({"spec": {"size": null}}),
                json!({"spec": {"replicas": 1, "mode": "A"}}),
            ),
            (
                json!({"spec": {"replicas": 3, "mode": "B", "list": [{}, {"p": "UDP"}], "map": {"k": {}}}}),
                json!({"spec": {"replicas": 3, "mode": "B", "list": [{"p": "TCP"}, {"p": "UDP"}], "map": {"k": {"v": 7}}}}),
            ),
        ];
        for (mut value, expected) in cases {
            default(&schema, &mut value);
            assert_eq!(value, expected);
        }
    }
}
