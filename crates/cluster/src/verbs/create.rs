//! Making a new object.

use http::StatusCode;

use super::write::insert;
use crate::answer::Answer;
use crate::call::Call;
use crate::status::ApiError;

/// Stores the object in the body.
pub(crate) async fn create(call: &mut Call) -> Result<Answer, ApiError> {
    if call.request.name.is_some() || (call.kind.namespaced && call.request.namespace.is_none()) {
        return Err(ApiError::method_not_allowed());
    }
    let object = call.object()?;
    let bytes = insert(call, object).await?;
    Ok(Answer::Object(StatusCode::CREATED, bytes))
}
