//! What every answer carries.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use crate::{access, compress, gateway::Gateway, refusal, routes};

/// What a page may do that may call at all: as much as any other client.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// The headers that it may send when it does not ask about any.
const HEADERS: &str = "Authorization, Content-Type, Range";
/// How long a page may remember what it was told about calling from elsewhere.
const REMEMBER: &str = "600";

/// Everything that is served.
pub(crate) fn app(gateway: Arc<Gateway>) -> Router {
    routes::router(gateway.clone())
        .layer(middleware::map_response(refusal::in_shape))
        .layer(middleware::from_fn_with_state(
            gateway.clone(),
            access::admit,
        ))
        .layer(middleware::from_fn_with_state(gateway, dress))
}

/// Gives every answer a number and the time it took, and says to browsers which pages may read
/// it.
async fn dress(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let origin = allowed_origin(request.headers(), &gateway.settings.origins);
    let asks = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let named = request
        .headers()
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let named = named.cloned().unwrap_or(HeaderValue::from_static(HEADERS));
    let reads_gzip = compress::is_read_by(request.headers());
    let mut response = match (asks, &origin) {
        (true, Some(_)) => StatusCode::OK.into_response(),
        (true, None) => StatusCode::BAD_REQUEST.into_response(),
        (false, _) => next.run(request).await,
    };
    if reads_gzip {
        response = compress::compressed(response).await;
    }
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("vary", "Accept-Encoding, Origin".to_owned());
    set("x-request-id", uuid::Uuid::new_v4().to_string());
    set(
        "x-process-time",
        format!("{:.3}", began.elapsed().as_secs_f64()),
    );
    if let Some(origin) = origin {
        set("access-control-allow-origin", origin);
        set("access-control-allow-credentials", "true".to_owned());
        if asks {
            set("access-control-allow-methods", METHODS.to_owned());
            set("access-control-max-age", REMEMBER.to_owned());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, named);
        } else {
            set(
                "access-control-expose-headers",
                "X-Request-ID, X-Process-Time".to_owned(),
            );
        }
    }
    response
}

/// The origin of a page that may read the answer.
fn allowed_origin(headers: &HeaderMap, named: &[String]) -> Option<String> {
    let text = |name: header::HeaderName| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let origin = text(header::ORIGIN)?;
    access::may_come_from(origin, text(header::HOST), named).then(|| origin.to_owned())
}
