//! Reading one object.

use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::status::ApiError;
use crate::versions::{loaded, served};

/// An object as it is on disk, in the version of the request.
pub(crate) async fn read(call: &Call) -> Result<Value, ApiError> {
    let name = call.request.name();
    let key = call.api.key(&call.kind, call.namespace(), name);
    let record = call
        .api
        .store
        .get(&key)
        .ok_or_else(|| call.not_found(name))?;
    loaded(&call.kind, &record).await
}

/// Answers with an object as it is on disk.
pub(crate) async fn get(call: &Call) -> Result<Answer, ApiError> {
    let name = call.request.name();
    let key = call.api.key(&call.kind, call.namespace(), name);
    let record = call
        .api
        .store
        .get(&key)
        .ok_or_else(|| call.not_found(name))?;
    let bytes = served(&call.kind, &record.value, record.revision).await?;
    Ok(Answer::ok(bytes))
}
