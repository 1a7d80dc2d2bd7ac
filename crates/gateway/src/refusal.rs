//! What is answered to a request that is not done, in the shapes that clients know.

use axum::{
    Json,
    body::{HttpBody, to_bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// The longest words of the web framework's own.
const LONGEST: usize = 4096;

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

/// What was refused before a route of ours saw it, by the web framework in plain words or in
/// none, in the shape of everything else that is refused.
pub(crate) async fn in_shape(response: Response) -> Response {
    let status = response.status();
    let is_refused = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let is_short = (response.body().size_hint().exact()).is_some_and(|size| size <= LONGEST as u64);
    if !is_refused || !is_plain || !is_short {
        return response;
    }
    let (mut head, body) = response.into_parts();
    // It is there already, in memory: reading it cannot fail.
    let said = to_bytes(body, LONGEST).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let words = match said.trim() {
        "" => status.canonical_reason().unwrap_or("Refused"),
        said => said,
    };
    for of_the_old_body in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        head.headers.remove(of_the_old_body);
    }
    let shaped = Refusal::Plain(status, words.to_owned()).into_response();
    let (shaped, body) = shaped.into_parts();
    head.headers.extend(shaped.headers);
    Response::from_parts(head, body)
}

impl Fault {
    fn body(self) -> Value {
        json!({ "type": self.kind, "loc": self.at, "msg": self.message, "input": self.input })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shaped(response: Response) -> (StatusCode, Value) {
        let response = in_shape(response).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), LONGEST).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn every_refusal_has_its_words_in_json() {
        let empty = StatusCode::METHOD_NOT_ALLOWED;
        let said = json!({ "detail": "Method Not Allowed" });
        assert_eq!(shaped(empty.into_response()).await, (empty, said));
        let plain = (StatusCode::BAD_REQUEST, "Invalid URL").into_response();
        let said = json!({ "detail": "Invalid URL" });
        assert_eq!(shaped(plain).await, (StatusCode::BAD_REQUEST, said));
        let ours = Refusal::NotFound("gone".to_owned()).into_response();
        assert_eq!(shaped(ours).await.1["message"], "gone");
    }

    #[tokio::test]
    async fn a_log_stays_text() {
        let (status, body) = shaped("a line".into_response()).await;
        assert_eq!((status, body), (StatusCode::OK, Value::Null));
    }
}
