//! The three patch formats: RFC 6902 operations, RFC 7386 merges and Kubernetes' strategic
//! merges. Server-side apply has a module of its own, [`crate::apply`].

pub mod json;
pub mod merge;
pub mod strategic;

use serde_json::Value;

/// How deep a patched object may nest. Deeper ones could not be read back.
pub const MAX_DEPTH: usize = 100;

/// Why a patch was refused. The texts are those of a Kubernetes API server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense: 400 `BadRequest`.
    #[error("{0}")]
    Malformed(String),
    /// The patch is too big: 413 `RequestEntityTooLarge`.
    #[error("{0}")]
    TooLarge(String),
    /// The patch does not fit the object: 422 `Invalid`.
    #[error("the server rejected our request due to an error in our request: {0}")]
    DoesNotApply(String),
}

impl PatchError {
    /// The HTTP status that goes with the error.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooLarge(_) => 413,
            Self::DoesNotApply(_) => 422,
        }
    }
}

/// Refuses a patched object that nests deeper than a reader accepts.
fn checked_depth(value: Value) -> Result<Value, PatchError> {
    if nests_deeper_than(&value, MAX_DEPTH) {
        return Err(PatchError::TooLarge(format!(
            "the patched object nests deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(value)
}

fn nests_deeper_than(value: &Value, limit: usize) -> bool {
    match value {
        Value::Object(_) | Value::Array(_) if limit == 0 => true,
        Value::Object(fields) => fields
            .values()
            .any(|field| nests_deeper_than(field, limit - 1)),
        Value::Array(items) => items.iter().any(|item| nests_deeper_than(item, limit - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
