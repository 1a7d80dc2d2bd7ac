//! Objects against the schema of their kind: read, prune, default, validate.

use std::sync::Arc;

use sandlot_objects::builtin::{self, defaults, rules};
use sandlot_objects::protobuf;
use sandlot_objects::schema::{self, Schema, parse_strict};
use sandlot_objects::shape::Shape;
use serde_json::Value;

use crate::kinds::{Kind, Origin};
use crate::object::set_aside;
use crate::status::{ApiError, Cause, Reason};

/// Reads JSON. The second part names the fields that stood in it twice.
pub(crate) fn from_json(bytes: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    parse_strict(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "the body of the request is not valid JSON: {error}"
        ))
    })
}

/// Reads YAML.
pub(crate) fn from_yaml(bytes: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ApiError::bad_request("the body of the request is not UTF-8"))?;
    // A label of `yes` is a text: only true and false are booleans.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        ApiError::bad_request(format!(
            "the body of the request is not valid YAML: {error}"
        ))
    })
}

/// Reads Kubernetes' protobuf envelope.
pub(crate) fn from_protobuf(bytes: &[u8]) -> Result<Value, ApiError> {
    protobuf::decode(bytes).map_err(|error| {
        let reason = match error.status() {
            413 => Reason::RequestEntityTooLarge,
            _ => Reason::BadRequest,
        };
        ApiError::new(error.status(), reason, error.to_string())
    })
}

/// The schema of a built-in type.
pub(crate) fn of_builtin(name: &str) -> Option<Arc<Schema>> {
    builtin::schema(name).cloned()
}

/// Drops the fields that a kind does not know and names them.
pub(crate) fn prune(kind: &Kind, object: &mut Value) -> Vec<String> {
    kind.schema
        .as_ref()
        .map(|schema| schema::prune(schema, object))
        .unwrap_or_default()
}

/// Drops the fields of a built-in kind that a client sent as null, as Go's do with those
/// that they do not set.
pub(crate) fn drop_nulls(kind: &Kind, object: &mut Value) {
    if let (Some(_), Some(schema)) = (kind.builtin(), &kind.schema) {
        schema::drop_nulls(schema, object);
    }
}

/// Fills in what an object leaves out.
pub(crate) fn default(kind: &Kind, object: &mut Value) {
    if let Some(schema) = &kind.schema {
        schema::default(schema, object);
    }
    if let Some(row) = kind.builtin() {
        defaults::apply(row.group, row.kind, object);
    }
}

/// Fills in what a change left out of what it changed: the rest is whole already.
pub(crate) fn default_changed(kind: &Kind, object: &mut Value, old: &Value) {
    let aside = set_aside(object, old);
    default(kind, object);
    aside.put_back(object);
}

/// A built-in kind has types of its own, and a value of another type cannot even be read. What a
/// change leaves as it was has been read before.
pub(crate) fn read_refused(kind: &Kind, object: &Value, old: Option<&Value>) -> Option<ApiError> {
    let (row, schema) = (kind.builtin()?, kind.schema.as_ref()?);
    let causes = schema::validate(schema, object, old);
    let wrong = causes
        .iter()
        .find(|cause| cause.reason == schema::Reason::TypeInvalid)?;
    Some(ApiError::bad_request(format!(
        "{name} in version {:?} cannot be handled as a {name}: json: cannot unmarshal {}: {}",
        row.version,
        wrong.field,
        wrong.message,
        name = row.kind,
    )))
}

/// What is wrong with an object, compared to what it was.
pub(crate) fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let causes = match &kind.origin {
        Origin::Custom(custom) => custom.version.validate(object, old),
        Origin::Builtin(row) => rules::validate(row.group, row.kind, object, old),
    };
    causes.into_iter().map(Cause::from).collect()
}

/// What is wrong with an object of a built-in kind only because it is new.
pub(crate) fn validate_new(kind: &Kind, object: &Value) -> Vec<Cause> {
    let row = kind.builtin();
    let causes = row.map(|row| rules::validate_new(row.group, row.kind, object));
    causes.into_iter().flatten().map(Cause::from).collect()
}

/// What is wrong with a change through a subresource of a built-in kind, beyond the object.
pub(crate) fn validate_part(kind: &Kind, part: &str, new: &Value, old: &Value) -> Vec<Cause> {
    let row = kind.builtin();
    let causes = row.map(|row| rules::validate_part(row.group, row.kind, part, new, old));
    causes.into_iter().flatten().map(Cause::from).collect()
}

/// How lists and maps of a kind merge.
pub(crate) fn merging(kind: &Kind) -> Shape<'_> {
    match kind.schema.as_deref() {
        Some(schema) => Shape::object(schema, builtin::types()),
        None => Shape::deduced(),
    }
}
