//! Whether a connection is of use to anybody.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::sleep;

/// Counts the requests of a connection whose answers are not yet sent.
#[derive(Clone)]
pub(crate) struct Activity(Arc<watch::Sender<usize>>);

impl Activity {
    pub(crate) fn new() -> Self {
        Activity(Arc::new(watch::Sender::new(0)))
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(&self) -> Request {
        self.0.send_modify(|running| *running += 1);
        Request(self.clone())
    }

    /// Returns once there has been no request for this long.
    pub(crate) async fn idle(&self, patience: Duration) {
        let mut running = self.0.subscribe();
        // The sender lives as long as this, so neither wait can fail.
        while running.wait_for(|running| *running == 0).await.is_ok() {
            tokio::select! {
                () = sleep(patience) => return,
                _ = running.changed() => {}
            }
        }
    }
}

/// A request that is being answered.
pub(crate) struct Request(Activity);

impl Request {
    /// The answer; the request is over when the last of it is sent, or given up.
    pub(crate) fn answer(self, answer: Response<Body>) -> Response<Body> {
        answer.map(|body| {
            Body::new(Counted {
                body,
                _request: self,
            })
        })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.send_modify(|running| *running -= 1);
    }
}

struct Counted {
    body: Body,
    _request: Request,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
