//! Ends connections whose other side no longer reads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A connection on which a write that makes no progress for too long fails.
pub(crate) struct Stall<T> {
    inner: T,
    patience: Duration,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Runs until so many bytes have come.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<T> Stall<T> {
    pub(crate) fn new(inner: T, patience: Duration) -> Self {
        Stall {
            inner,
            patience,
            deadline: None,
            greeting: None,
        }
    }

    /// Fails reads when so many first bytes do not come in time.
    pub(crate) fn expect(&mut self, bytes: usize, within: Duration) {
        self.greeting = Some((bytes, Box::pin(sleep(within))));
    }

    /// Passes on what a write came to, unless it has been waiting for too long.
    fn judge<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(deadline.as_mut().poll(context));
        deadline.as_mut().reset(Instant::now() + patience);
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the other side does not read",
        )))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stall<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let Some((missing, deadline)) = &mut self.greeting else {
            return read;
        };
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            self.greeting = None;
        } else if deadline.as_mut().poll(context).is_ready() {
            let why = "the client did not begin to speak in time";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stall<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        self.judge(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_reading_is_given_up() {
        let (ours, _theirs) = duplex(4);
        let mut stall = Stall::new(ours, Duration::from_secs(60));
        let started = Instant::now();
        let error = stall.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_goes_on_reading_is_served() {
        use tokio::io::AsyncReadExt;
        let (ours, mut theirs) = duplex(1);
        let mut stall = Stall::new(ours, Duration::from_secs(60));
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while read.len() < 5 {
                sleep(Duration::from_secs(50)).await;
                read.push(theirs.read_u8().await.unwrap());
            }
            read
        });
        stall.write_all(b"hello").await.unwrap();
        assert_eq!(reader.await.unwrap(), b"hello");
    }
}
