//! The routes, subject by subject.

mod containers;
mod executions;
mod files;
mod health;
mod internal;
mod sessions;
mod stream;
mod templates;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::{StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    access::Caller,
    docs,
    gateway::Gateway,
    ledger::{LedgerError, Session},
    open::OpenError,
    refusal::Refusal,
    workspaces::FileError,
};

/// The largest body that is not a file.
const LARGEST_BODY: usize = 2 << 20;
/// A page that nobody limited.
const PAGE: i64 = 50;

type Query = axum::extract::Query<BTreeMap<String, String>>;
type State = axum::extract::State<Arc<Gateway>>;
type Answer = Result<Json<Value>, Refusal>;

/// All routes.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let api = Router::new()
        .merge(sessions::routes())
        .merge(executions::routes())
        .merge(stream::routes())
        .merge(templates::routes())
        .merge(containers::routes())
        .merge(health::routes())
        .merge(internal::routes())
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(fits))
        .merge(files::routes());
    Router::new()
        .nest("/api/v1", api)
        .route("/metrics", get(health::metrics))
        .merge(docs::routes())
        .fallback(elsewhere)
        .with_state(gateway)
}

/// A call of the API whose path ends in a slash is sent on to the one without: clients write
/// both. Anything else is nowhere.
async fn elsewhere(uri: Uri) -> Response {
    let plain = uri.path().trim_end_matches('/');
    let query = uri.query().map(|query| format!("?{query}"));
    let target = format!("{plain}{}", query.unwrap_or_default());
    // Only ever to a path of our own: what begins with two slashes would be another host. What
    // is no ASCII fits into no header.
    let is_ours = plain.starts_with("/api/v1/") && target.is_ascii();
    if is_ours && plain.len() < uri.path().len() {
        return Redirect::temporary(&target).into_response();
    }
    let missing = Json(json!({ "detail": "Not Found" }));
    (StatusCode::NOT_FOUND, missing).into_response()
}

/// Refuses a body that says beforehand that it is too large.
async fn fits(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_none_or(|length| length <= LARGEST_BODY as u64) {
        return next.run(request).await;
    }
    let words = format!("the body is larger than the limit of {LARGEST_BODY} bytes");
    Refusal::Plain(StatusCode::PAYLOAD_TOO_LARGE, words).into_response()
}

/// A session that the caller may use.
async fn session_of(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Session, Refusal> {
    let session = gateway.ledger.session(id).await?;
    // Others' sessions are not even there.
    session
        .filter(|session| caller.may_use(&session.owner))
        .ok_or_else(|| Refusal::no_session(id))
}

/// A number in a query that is clamped rather than refused.
fn clamped(query: &BTreeMap<String, String>, name: &str, usual: i64, least: i64, most: i64) -> i64 {
    let given = query.get(name).and_then(|text| text.trim().parse().ok());
    given.unwrap_or(usual).clamp(least, most)
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Database(_) => Self::Plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{error}; try again in a moment"),
            ),
            LedgerError::Contended => Self::Conflict(error.to_string()),
            error => Self::Broken(error.to_string()),
        }
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        let message = error.to_string();
        match error {
            FileError::Path(_) | FileError::InTheWay(_) | FileError::Broken(_) => {
                Self::bad(message)
            }
            FileError::Missing(_) => Self::NotFound(message),
            FileError::Changed(_) => Self::Conflict(message),
            FileError::TooLarge(_) => Self::Plain(StatusCode::PAYLOAD_TOO_LARGE, message),
            FileError::Store(_) | FileError::Bucket(..) => Self::Plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{message}; try again in a moment"),
            ),
        }
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Ledger(error) => error.into(),
            OpenError::Files(error) => error.into(),
            error => Self::Plain(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_path_of_ours_is_led_to() {
        let led = |uri: &'static [u8]| async move {
            let response = elsewhere(Uri::try_from(uri).unwrap()).await;
            let location = response.headers().get(header::LOCATION).cloned();
            location.map(|place| place.to_str().unwrap().to_owned())
        };
        let sessions = Some("/api/v1/sessions?limit=3".to_owned());
        assert_eq!(led(b"/api/v1/sessions/?limit=3").await, sessions);
        for nowhere in [
            &b"/api/v1/sessions"[..],
            b"/other/",
            b"//evil.example/",
            b"/api/v1/",
            "/api/v1/ä/".as_bytes(),
        ] {
            assert_eq!(led(nowhere).await, None, "{}", nowhere.escape_ascii());
        }
    }
}
