//! Leaving HTTP without a socket: a client in process that wants exec or port-forward gets a
//! connection of its own, in memory.

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Sessions;
use crate::answer::failed;
use crate::status::ApiError;

/// Bytes between the two ends.
const BUFFER: usize = 64 * 1024;

impl Sessions {
    /// Asks `handle` over a connection in memory, so that both sides can leave HTTP on it.
    pub(crate) async fn over_memory<F>(
        &self,
        request: Request<Body>,
        handle: impl Fn(Request<Body>) -> F + Send + 'static,
    ) -> Response<Body>
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (near, far) = tokio::io::duplex(BUFFER);
        let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
            let answered = handle(request.map(Body::new));
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let serving = hyper::server::conn::http1::Builder::new();
        let serving = serving
            .serve_connection(TokioIo::new(far), answer)
            .with_upgrades();
        self.keep(async move { drop(serving.await) });
        match self.ask(near, request).await {
            Ok(answer) => answer,
            Err(error) => failed(&ApiError::internal(error)),
        }
    }

    async fn ask(
        &self,
        near: tokio::io::DuplexStream,
        mut request: Request<Body>,
    ) -> hyper::Result<Response<Body>> {
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        let connection = connection.with_upgrades();
        self.keep(async move { drop(connection.await) });
        request
            .headers_mut()
            .entry(http::header::HOST)
            .or_insert(http::HeaderValue::from_static("in-process"));
        Ok(client.send_request(request).await?.map(Body::new))
    }
}
