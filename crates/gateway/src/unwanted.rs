//! What is left of a body that nobody reads to its end, because it is too large, say. Who sends it
//! may look for the answer only when all is sent, and would find the connection broken instead: it
//! is read on for a while, and thrown away.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// What is read at most of a body that is not wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unwanted {
    /// For this long.
    pub(crate) time: Duration,
    /// So much of it.
    pub(crate) bytes: u64,
}

/// A body that is heard out when nobody wants it any more.
pub(crate) struct Heard<B: Body<Data = Bytes> + Send + 'static> {
    /// Nothing once it is over.
    body: Option<Pin<Box<B>>>,
    /// Whether it does not begin to come before somebody wants it.
    waits: bool,
    most: Unwanted,
    stop: CancellationToken,
}

impl<B: Body<Data = Bytes> + Send + 'static> Heard<B> {
    /// Hears out at most so much of this body, until told to stop. One that `waits` for somebody
    /// to want it is not asked for only to be thrown away.
    pub(crate) fn new(body: B, waits: bool, most: Unwanted, stop: CancellationToken) -> Self {
        Self {
            body: Some(Box::pin(body)),
            waits,
            most,
            stop,
        }
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Body for Heard<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        this.waits = false;
        let polled = body.as_mut().poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            this.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Drop for Heard<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.waits || body.is_end_stream() {
            return;
        }
        // Without a runtime the connection is no more, either.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let Unwanted { time, bytes } = self.most;
        let stop = self.stop.clone();
        runtime.spawn(async move {
            let hearing = tokio::time::timeout(time, hear_out(body, bytes));
            tokio::select! {
                _ = hearing => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Reads a body to its end, or so much of it.
async fn hear_out<B: Body<Data = Bytes>>(mut body: Pin<Box<B>>, mut left: u64) {
    while let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}
