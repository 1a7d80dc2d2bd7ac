//! How a command ended, as clients are told on the error stream.

use serde_json::{Value, json};

use crate::kubelet::{Exit, KubeletError};
use crate::status::{ApiError, Reason};

/// The Status that ends an exec or attach.
pub(super) fn status(command: &[String], outcome: &Result<Exit, KubeletError>) -> Value {
    match outcome {
        Ok(Exit { code: 0 }) => json!({"metadata": {}, "status": "Success"}),
        Ok(Exit { code }) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!(
                "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                command.join(" ")
            ),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => ApiError::from(error.clone()).to_value(),
    }
}

impl From<KubeletError> for ApiError {
    fn from(error: KubeletError) -> ApiError {
        match error {
            KubeletError::NotFound(why) => ApiError::new(404, Reason::NotFound, why),
            KubeletError::BadRequest(why) => ApiError::bad_request(why),
            KubeletError::Internal(why) => ApiError::internal(why),
        }
    }
}
