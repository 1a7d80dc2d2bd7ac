//! The gRPC health check (`grpc.health.v1.Health/Check`), over plain HTTP/2.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// An answer of this service is a few bytes; more is not read.
const LONGEST_ANSWER: usize = 4096;

/// Asks whether a service serves.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("gRPC health check failed: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(failed)?;
    let request = http::Request::post("http://pod/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(question(service)))
        .map_err(|error| error.to_string())?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let body = http_body_util::Limited::new(response.into_body(), LONGEST_ANSWER);
        body.collect()
            .await
            .map(|all| all.to_bytes())
            .map_err(|error| format!("gRPC health check failed: {error}"))
    };
    let answer = tokio::select! {
        answer = answered => answer,
        Err(error) = connection => Err(failed(error)),
    };
    serving(&answer?)
}

/// One message: its frame, then field 1, the service's name.
fn question(service: &str) -> Bytes {
    let name = &service.as_bytes()[..service.len().min(100)];
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend([0x0a, name.len() as u8]);
        message.extend(name);
    }
    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
    framed.extend(message);
    framed.into()
}

/// Field 1 of the answer is 1 when it serves.
fn serving(answer: &[u8]) -> Result<(), String> {
    match answer.get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        Some([0x08, status, ..]) => Err(format!("gRPC service is not serving (status {status})")),
        _ => Err("gRPC service does not know its health".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_is_healthy() {
        assert!(serving(&[0, 0, 0, 0, 2, 8, 1]).is_ok());
        for answer in [&[0, 0, 0, 0, 2, 8, 2][..], &[0, 0, 0, 0, 0], &[]] {
            assert!(serving(answer).is_err());
        }
        assert_eq!(&question("a")[..], [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
    }
}
