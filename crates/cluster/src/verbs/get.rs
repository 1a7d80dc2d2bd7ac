//! Reading one object.

use serde_json::Value;

use crate::answer::Answer;
use crate::call::Call;
use crate::record::with_api_version;
use crate::status::ApiError;

/// An object as it is on disk, in the version of the request.
pub(crate) fn read(call: &Call) -> Result<Value, ApiError> {
    let name = call.request.name();
    let key = call.api.key(&call.kind, call.namespace(), name);
    let mut object = call.api.read(&key).ok_or_else(|| call.not_found(name))?;
    object["apiVersion"] = call.kind.api_version().into();
    Ok(object)
}

/// Answers with an object as it is on disk.
pub(crate) fn get(call: &Call) -> Result<Answer, ApiError> {
    let name = call.request.name();
    let key = call.api.key(&call.kind, call.namespace(), name);
    let record = call
        .api
        .store
        .get(&key)
        .ok_or_else(|| call.not_found(name))?;
    Ok(Answer::ok(with_api_version(
        &record.value,
        &call.kind.api_version(),
    )))
}
