//! From an HTTP request to a connection of another protocol.

use axum::body::Body;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::status::ApiError;

const SPDY: &str = "SPDY/3.1";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What the client wants to go on with.
#[derive(Debug)]
pub(super) enum Upgrade {
    /// A WebSocket that speaks this protocol.
    WebSocket(&'static str),
    /// SPDY streams; the protocols in them are the same as far as the server is concerned.
    Spdy,
}

impl Upgrade {
    /// What the client wants, out of what the server speaks, and the answer that begins it.
    pub(super) fn agree(
        headers: &HeaderMap,
        websocket: &[&'static str],
        spdy: &[&'static str],
    ) -> Result<(Upgrade, Response<Body>), ApiError> {
        let wanted = headers
            .get(UPGRADE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if wanted.eq_ignore_ascii_case("websocket") {
            let protocol = choose(headers, &SEC_WEBSOCKET_PROTOCOL, websocket)?;
            return Ok((
                Upgrade::WebSocket(protocol),
                welcome_websocket(headers, protocol)?,
            ));
        }
        if wanted.eq_ignore_ascii_case(SPDY) {
            let protocol = choose(headers, &STREAM_PROTOCOL, spdy)?;
            let mut answer = switching(SPDY);
            answer
                .headers_mut()
                .insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
            return Ok((Upgrade::Spdy, answer));
        }
        Err(ApiError::bad_request(
            "Upgrade request required: ask for a WebSocket or for SPDY/3.1 in the Upgrade header",
        ))
    }
}

/// The first protocol of ours that the client speaks too.
fn choose(
    headers: &HeaderMap,
    header: &HeaderName,
    ours: &[&'static str],
) -> Result<&'static str, ApiError> {
    let values = headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let theirs: Vec<&str> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    ours.iter()
        .copied()
        .find(|protocol| theirs.contains(protocol))
        .ok_or_else(|| {
            ApiError::new(
                403,
                crate::status::Reason::Forbidden,
                format!("unable to upgrade: the client speaks {theirs:?}, the server {ours:?}"),
            )
        })
}

fn welcome_websocket(
    headers: &HeaderMap,
    protocol: &'static str,
) -> Result<Response<Body>, ApiError> {
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(ApiError::bad_request("a WebSocket must be of version 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| ApiError::bad_request("a WebSocket needs a Sec-WebSocket-Key"))?;
    let accept =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(ApiError::internal)?;
    let mut answer = switching("websocket");
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(answer)
}

fn switching(to: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static(to));
    answer
}
