//! Big answers are sent compressed to those who can read them so.

use std::io::Write;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt;

/// Smaller answers are not worth the work.
const WORTH_IT: u64 = 128 * 1024;

/// Whether a client reads gzip.
pub(crate) fn reads_gzip(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && quality.trim() != "q=0"
    })
}

/// The same answer, compressed when it is big. Streams stay as they are.
pub(crate) async fn compressed(response: Response<Body>) -> Response<Body> {
    let size = response.body().size_hint().exact().unwrap_or(0);
    if size <= WORTH_IT || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let plain = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        // A body whose size is known is in memory and cannot fail; if it does, nothing is left of it.
        Err(_) => Bytes::new(),
    };
    let zipped = tokio::task::spawn_blocking({
        let plain = plain.clone();
        move || gzip(&plain)
    })
    .await;
    let Ok(Ok(zipped)) = zipped else {
        return Response::from_parts(parts, Body::from(plain));
    };
    let gzip = HeaderValue::from_static("gzip");
    parts.headers.insert(header::CONTENT_ENCODING, gzip);
    let vary = HeaderValue::from_static("Accept-Encoding");
    parts.headers.append(header::VARY, vary);
    Response::from_parts(parts, Body::from(zipped))
}

fn gzip(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn a_big_answer_is_compressed_and_a_small_one_is_not() {
        let small = compressed(Response::new(Body::from("small"))).await;
        assert!(!small.headers().contains_key(header::CONTENT_ENCODING));

        let text = "the same again and again ".repeat(10_000);
        let big = compressed(Response::new(Body::from(text.clone()))).await;
        assert_eq!(big.headers()[header::CONTENT_ENCODING], "gzip");
        let bytes = big.into_body().collect().await.expect("a body").to_bytes();
        assert!(bytes.len() < text.len() / 20);
        let mut read = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&bytes[..]);
        decoder.read_to_string(&mut read).expect("gzip");
        assert_eq!(read, text);
    }

    #[test]
    fn clients_say_whether_they_read_gzip() {
        let mut headers = HeaderMap::new();
        assert!(!reads_gzip(&headers));
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("br, gzip;q=0.5"),
        );
        assert!(reads_gzip(&headers));
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("gzip;q=0"),
        );
        assert!(!reads_gzip(&headers));
    }
}
