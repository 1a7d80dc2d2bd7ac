//! Replacing an object.

use super::write::{Part, change};
use crate::answer::Answer;
use crate::call::Call;
use crate::metadata;
use crate::object;
use crate::status::{ApiError, Cause};

/// Puts the object in the body in the place of the one there is.
pub(crate) async fn update(call: &mut Call, part: Part) -> Result<Answer, ApiError> {
    let object = call.object()?;
    metadata::same_object(&call.kind, &object, &call.request)?;
    if call.kind.custom().is_some() && object::resource_version(&object).is_empty() {
        let cause = Cause::new(
            "FieldValueInvalid",
            "metadata.resourceVersion",
            "Invalid value: 0x0: must be specified for an update",
        );
        return Err(ApiError::invalid(
            &call.kind.group,
            &call.kind.kind,
            call.request.name(),
            vec![cause],
        ));
    }
    let written = change(call, part, |_, _| Ok(object.clone())).await?;
    Ok(Answer::ok(written.bytes))
}
