//! Reading one object.

use crate::answer::Answer;
use crate::call::Call;
use crate::record::with_api_version;
use crate::status::ApiError;

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
