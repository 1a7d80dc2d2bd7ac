//! Dropping the fields that a schema does not know.

use serde_json::Value;

use super::{Additional, Schema, path::Path, resolve};

/// Removes fields that the schema does not know and tells their paths, for pruning and
/// for `fieldValidation`.
pub fn prune(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(schema, value, &mut Path::root(), &mut unknown);
    unknown
}

fn walk(schema: &Schema, value: &mut Value, path: &mut Path, unknown: &mut Vec<String>) {
    let schema = resolve(schema);
    match value {
        Value::Object(fields) => {
            let keeps = keeps_unknown(schema);
            fields.retain(|name, field| {
                let mark = path.push(name);
                let known = match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => {
                        walk(property, field, path, unknown);
                        true
                    }
                    (None, Additional::Of(of)) => {
                        walk(of, field, path, unknown);
                        true
                    }
                    (None, Additional::Any) => true,
                    (None, Additional::None) => keeps,
                };
                if !known {
                    unknown.push(path.to_string());
                }
                path.cut(mark);
                known
            });
        }
        Value::Array(items) => {
            let Some(of) = &schema.items else { return };
            for (index, item) in items.iter_mut().enumerate() {
                let mark = path.push_index(index);
                walk(of, item, path, unknown);
                path.cut(mark);
            }
        }
        _ => {}
    }
}

/// Whether unnamed fields stay: where asked for, and where the schema says nothing at all.
fn keeps_unknown(schema: &Schema) -> bool {
    use super::Type;
    schema.preserve_unknown || (schema.kind == Type::Any && schema.properties.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn case(schema: Value, mut value: Value) -> (Value, Vec<String>) {
        let unknown = prune(&Schema::from_json(&schema), &mut value);
        (value, unknown)
    }

    #[test]
    fn unknown_fields_go_at_every_depth() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
                "map": {"type": "object", "additionalProperties":
                    {"type": "object", "properties": {"v": {"type": "integer"}}}},
            }},
        }});
        let (value, unknown) = case(
            schema,
            json!({"spec": {"a": "x", "b": 1, "list": [{"k": "1", "j": 2}], "map": {"one": {"v": 1, "w": 2}}}, "top": 1}),
        );
        assert_eq!(
            value,
            json!({"spec": {"a": "x", "list": [{"k": "1"}], "map": {"one": {"v": 1}}}})
        );
        assert_eq!(
            unknown,
            ["spec.b", "spec.list[0].j", "spec.map.one.w", "top"]
        );
    }

    #[test]
    fn what_is_to_be_preserved_stays_but_known_parts_of_it_are_pruned() {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
            "known": {"type": "object", "properties": {"a": {"type": "string"}}},
        }});
        let (value, unknown) = case(
            schema,
            json!({"any": {"thing": 1}, "known": {"a": "x", "b": 1}}),
        );
        assert_eq!(value, json!({"any": {"thing": 1}, "known": {"a": "x"}}));
        assert_eq!(unknown, ["known.b"]);
    }
}
