//! Conditions as this group writes them: only those that hold are kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that holds of an object. `T` is the word for what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What holds.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it does.
    pub status: Holds,
    /// Why, as a word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
}

/// A list of conditions of these types, merged by type.
pub(super) fn schema(generator: &mut SchemaGenerator, types: &[&str]) -> Schema {
    let mut item = generator.subschema_for::<Condition>();
    if let Some(Value::Object(properties)) = item.get_mut("properties")
        && let Some(Value::Object(kind)) = properties.get_mut("type")
    {
        kind.insert("enum".into(), Value::from(types.to_vec()));
    }
    let mut schema = Schema::default();
    schema.insert("type".into(), "array".into());
    schema.insert("nullable".into(), Value::Bool(true));
    schema.insert("x-kubernetes-list-type".into(), "map".into());
    schema.insert(
        "x-kubernetes-list-map-keys".into(),
        Value::from(vec!["type"]),
    );
    schema.insert("items".into(), item.to_value());
    schema
}
