//! One request, from its head to its answer.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, header};
use http_body::Frame;
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Answers;
use crate::access::{Gate, User};
use crate::answer;
use crate::aside::Aside;
use crate::status::{ApiError, Reason};

/// What a request on a connection meets.
#[derive(Clone)]
pub(crate) struct Asked<S> {
    pub(crate) service: S,
    pub(crate) gate: Arc<Gate>,
    /// Who the client certificate belongs to.
    pub(crate) peer: Option<Arc<User>>,
    pub(crate) deadline: Duration,
    pub(crate) stop: CancellationToken,
}

impl<S: Answers> Asked<S> {
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        let mut request = request.map(Body::new);
        match self
            .gate
            .enter(self.peer.as_deref(), &request, Timestamp::now())
        {
            Ok(user) => request.extensions_mut().insert(user),
            Err(refused) => return answer::failed(&refused),
        };
        if is_long(&request) {
            let answer = self.guard(request).await;
            return ends_with(answer, self.stop);
        }
        let deadline = self.deadline;
        timeout(deadline, self.guard(request))
            .await
            .unwrap_or_else(|_| too_slow(deadline))
    }

    /// The service's answer, or a Status in place of a panic.
    async fn guard(&self, request: Request<Body>) -> Response<Body> {
        let what = format!("{} {}", request.method(), request.uri().path());
        let answer: Result<Result<_, Infallible>, _> =
            AssertUnwindSafe(self.service.clone().oneshot(request))
                .catch_unwind()
                .await;
        match answer {
            Ok(Ok(answer)) => answer,
            Err(_) => {
                tracing::error!(request = what, "a request made the server panic");
                let message = "the server met a bug while it worked on this request; see its log";
                answer::failed(&ApiError::internal(message))
            }
        }
    }
}

fn too_slow(deadline: Duration) -> Response<Body> {
    let message = format!(
        "the request did not complete within {} seconds",
        deadline.as_secs()
    );
    answer::failed(&ApiError::new(504, Reason::Timeout, message))
}

/// Watches and streams last as long as both sides like.
fn is_long(request: &Request<Body>) -> bool {
    let watches =
        |pair: &str| matches!(pair, "watch=1" | "watch=true" | "follow=1" | "follow=true");
    request.headers().contains_key(header::UPGRADE)
        || request
            .uri()
            .query()
            .is_some_and(|query| query.split('&').any(watches))
}

/// An answer that ends when the server stops, so that watchers leave in order.
fn ends_with(answer: Response<Body>, stop: CancellationToken) -> Response<Body> {
    let stop = Aside::new().or(stop.cancelled_owned());
    answer.map(|body| Body::new(Ending { body, stop }))
}

/// A body that may end before its time.
struct Ending {
    body: Body,
    stop: Aside,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.stop.poll_unpin(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}
