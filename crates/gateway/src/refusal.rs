//! What is answered to a request that is not done, in the shapes that clients know.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// Why a request is not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request does not fit its schema.
    Schema(Vec<Fault>),
    /// There is no such thing.
    NotFound(String),
    /// The thing is not in a state to do this.
    Conflict(String),
    /// Refused with this status and these words.
    Plain(StatusCode, String),
    /// Not the caller's fault; the words are for the log.
    Broken(String),
}

/// One thing that does not fit the schema.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) at: Vec<Value>,
    pub(crate) message: String,
    pub(crate) input: Value,
}

impl Refusal {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::Plain(StatusCode::BAD_REQUEST, message.into())
    }

    pub(crate) fn no_session(id: &str) -> Self {
        Self::NotFound(format!("Session not found: {id}"))
    }

    /// The status it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Schema(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Plain(status, _) => *status,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let domain = |error: &str, message: String| json!({ "error": error, "message": message, "detail": message });
        let body = match self {
            Self::Schema(faults) => {
                let detail: Vec<_> = faults.into_iter().map(Fault::body).collect();
                json!({ "detail": detail })
            }
            Self::NotFound(message) => domain("Not Found", message),
            Self::Conflict(message) => domain("Conflict", message),
            Self::Plain(_, message) => json!({ "detail": message }),
            Self::Broken(why) => {
                tracing::error!(why, "a request could not be done");
                json!({
                    "error": "Internal Server Error",
                    "message": "An unexpected error occurred",
                    "detail": null,
                })
            }
        };
        (status, Json(body)).into_response()
    }
}

impl Fault {
    fn body(self) -> Value {
        json!({ "type": self.kind, "loc": self.at, "msg": self.message, "input": self.input })
    }
}
