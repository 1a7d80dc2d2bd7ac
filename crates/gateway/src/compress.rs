//! Answers in JSON go out smaller to who says that it reads gzip. Files and streams stay as they
//! are.

use std::io::Write;

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};

/// What is smaller gains nothing.
const SMALLEST: u64 = 1000;
/// What is larger is not held a second time.
const LARGEST: u64 = 8 << 20;

/// Whether who asks reads gzip.
pub(crate) fn is_read_by(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        let is_gzip = parts.next() == Some("gzip");
        is_gzip && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The answer, smaller where that is worth it.
pub(crate) async fn compressed(response: Response) -> Response {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let size = response.body().size_hint().exact();
    let is_worth_it = size.is_some_and(|size| (SMALLEST..=LARGEST).contains(&size));
    if !is_json || !is_worth_it || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let plain = match axum::body::to_bytes(body, LARGEST as usize).await {
        Ok(plain) => plain,
        // A body of known size is in memory already and cannot break off.
        Err(_) => return Response::from_parts(head, Body::empty()),
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(&plain).and_then(|()| encoder.finish());
    let Ok(small) = written else {
        return Response::from_parts(head, Body::from(plain));
    };
    let gzip = HeaderValue::from_static("gzip");
    head.headers.insert(header::CONTENT_ENCODING, gzip);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::from(small))
}

#[cfg(test)]
mod tests {
    use axum::{Json, response::IntoResponse};

    use super::*;

    #[test]
    fn only_who_reads_gzip_gets_it() {
        let reads = |accepted: &str| {
            let value = HeaderValue::from_str(accepted).unwrap();
            is_read_by(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
        };
        assert!(reads("gzip") && reads("br, gzip;q=0.5") && reads("deflate,gzip"));
        assert!(!reads("identity") && !reads("gzip;q=0") && !reads(""));
    }

    #[tokio::test]
    async fn long_json_shrinks_and_the_rest_stays() {
        let long = compressed(Json("x".repeat(5000)).into_response()).await;
        assert_eq!(long.headers()[header::CONTENT_ENCODING], "gzip");
        let small = axum::body::to_bytes(long.into_body(), 5000).await.unwrap();
        assert!(small.len() < 100, "{}", small.len());
        for plain in [
            Json("short").into_response(),
            "x".repeat(5000).into_response(),
        ] {
            let same = compressed(plain).await;
            assert!(!same.headers().contains_key(header::CONTENT_ENCODING));
        }
    }
}
