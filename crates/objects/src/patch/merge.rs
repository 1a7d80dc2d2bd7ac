//! RFC 7386 merge patches: objects merge, null deletes, everything else replaces.

use serde_json::Value;

use super::{PatchError, checked_depth};

/// Returns `original` with the merge patch applied.
pub fn apply(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("Invalid JSON Patch".into()));
    }
    let mut merged = original.clone();
    json_patch::merge(&mut merged, patch);
    checked_depth(merged)
}
