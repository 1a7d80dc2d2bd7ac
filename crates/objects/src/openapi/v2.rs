//! The second edition, rewritten from the third.

use serde_json::{Map, Value, json};

use super::{KindInfo, v3};

/// The document of the second edition for all kinds that are served.
pub fn v2(kinds: &[KindInfo<'_>]) -> Value {
    let mut document = v3(kinds);
    let mut paths = document["paths"].take();
    for path in paths.as_object_mut().into_iter().flat_map(Map::values_mut) {
        rewrite_path(path);
    }
    let mut definitions = document["components"]["schemas"].take();
    for schema in definitions
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
    {
        rewrite_schema(schema);
    }
    json!({
        "swagger": "2.0",
        "info": document["info"],
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": document["components"]["securitySchemes"],
        "security": [{"BearerToken": []}],
    })
}

fn rewrite_path(path: &mut Value) {
    for (key, part) in path.as_object_mut().into_iter().flatten() {
        if key == "parameters" {
            part.as_array_mut()
                .into_iter()
                .flatten()
                .for_each(rewrite_parameter);
        } else {
            rewrite_operation(part);
        }
    }
}

fn rewrite_operation(operation: &mut Value) {
    operation["parameters"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .for_each(rewrite_parameter);
    if let Some(body) = operation
        .as_object_mut()
        .and_then(|fields| fields.remove("requestBody"))
    {
        let content = body["content"].as_object();
        let consumes: Vec<&String> = content.into_iter().flat_map(Map::keys).collect();
        let mut schema = content
            .and_then(|content| content.values().next())
            .map_or(Value::Null, |one| one["schema"].clone());
        rewrite_schema(&mut schema);
        operation["consumes"] = json!(consumes);
        let parameter =
            json!({"name": "body", "in": "body", "required": body["required"], "schema": schema});
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.push(parameter);
        }
    }
    operation["produces"] = json!(["application/json", "application/yaml"]);
    operation["schemes"] = json!(["https"]);
    for response in operation["responses"]
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
    {
        let content = response
            .as_object_mut()
            .and_then(|fields| fields.remove("content"));
        if let Some(mut schema) =
            content.and_then(|content| content["application/json"].get("schema").cloned())
        {
            rewrite_schema(&mut schema);
            response["schema"] = schema;
        }
    }
}

/// A parameter has its type in place of a schema.
fn rewrite_parameter(parameter: &mut Value) {
    let Some(schema) = parameter
        .as_object_mut()
        .and_then(|fields| fields.remove("schema"))
    else {
        return;
    };
    for (key, value) in schema.as_object().into_iter().flatten() {
        parameter[key] = value.clone();
    }
}

/// References point elsewhere and stand alone; what the second edition cannot say is left out.
fn rewrite_schema(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    let format = fields
        .get("format")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let single = fields
        .get("allOf")
        .and_then(Value::as_array)
        .and_then(|all| all.first())
        .and_then(|first| first.get("$ref"))
        .cloned();
    if let Some(target) = single {
        fields.remove("allOf");
        fields.remove("default");
        fields.insert("$ref".into(), target);
    }
    if let Some(Value::String(target)) = fields.get_mut("$ref") {
        *target = target.replace("#/components/schemas/", "#/definitions/");
    }
    for key in [
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "nullable",
        "x-kubernetes-validations",
    ] {
        let was_union = fields.remove(key).is_some() && key == "oneOf";
        // Numbers or strings: said as a string with a format of its own.
        if was_union && !fields.contains_key("type") {
            fields.insert("type".into(), json!("string"));
        }
    }
    if format.as_deref() == Some("int-or-string") {
        fields.insert("type".into(), json!("string"));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(part) = fields.get_mut(key) {
            rewrite_schema(part);
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(rewrite_schema);
    }
}
