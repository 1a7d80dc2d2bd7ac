//! Waiting for something rare beside something frequent.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

/// Waits for the first of a few things that hardly ever happen. Whoever waits wakes for other
/// reasons all the time, and looking here again costs nothing unless one of these woke him: the
/// timers and locks behind them are left alone.
pub(crate) struct Aside(FuturesUnordered<BoxFuture<'static, ()>>);

impl Aside {
    /// Waits for nothing yet.
    pub(crate) fn new() -> Aside {
        Aside(FuturesUnordered::new())
    }

    /// Waits for this as well.
    pub(crate) fn or(self, rare: impl Future<Output = ()> + Send + 'static) -> Aside {
        self.0.push(Box::pin(rare));
        self
    }
}

impl Future for Aside {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.0.poll_next_unpin(context) {
            Poll::Ready(Some(())) => Poll::Ready(()),
            // Where there is nothing to wait for, it never happens.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::poll_fn;
    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_is_looked_at_only_when_it_stirs() {
        let (send, sent) = oneshot::channel::<()>();
        let mut sent = Box::pin(sent);
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let mut aside = Aside::new().or(poll_fn(move |context| {
            counted.fetch_add(1, Ordering::Relaxed);
            sent.as_mut().poll(context).map(drop)
        }));
        for _ in 0..3 {
            assert!(poll!(&mut aside).is_pending());
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        send.send(()).unwrap();
        (&mut aside).await;
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        // It has happened; it does not happen again.
        assert!(poll!(aside).is_pending());
    }
}
