//! Bytes to write that go into a queue which several streams share.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

/// No message holds more than this, so that streams take turns.
const PIECE: usize = 32 * 1024;

/// One stream's way into a queue of messages. A full queue makes writers wait.
pub(crate) struct Outlet<T: Send + 'static, W: Fn(Piece) -> Option<T>> {
    queue: PollSender<T>,
    wrap: W,
    ended: bool,
}

/// Bytes of a stream, or its end.
pub(crate) enum Piece {
    /// Some bytes.
    Bytes(Bytes),
    /// There will be no more.
    End,
}

impl<T: Send + 'static, W: Fn(Piece) -> Option<T>> Outlet<T, W> {
    /// Writes into this queue what `wrap` makes of each piece.
    pub(crate) fn new(queue: mpsc::Sender<T>, wrap: W) -> Self {
        Outlet {
            queue: PollSender::new(queue),
            wrap,
            ended: false,
        }
    }

    fn send(&mut self, context: &mut Context<'_>, piece: Piece) -> Poll<io::Result<()>> {
        ready!(self.queue.poll_reserve(context)).map_err(|_| gone())?;
        match (self.wrap)(piece) {
            Some(message) => self.queue.send_item(message).map_err(|_| gone())?,
            None => {
                self.queue.abort_send();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Send + 'static, W: Fn(Piece) -> Option<T> + Unpin> AsyncWrite for Outlet<T, W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(gone()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let piece = &bytes[..bytes.len().min(PIECE)];
        ready!(self.send(context, Piece::Bytes(Bytes::copy_from_slice(piece))))?;
        Poll::Ready(Ok(piece.len()))
    }

    /// What is in the queue is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            ready!(self.send(context, Piece::End))?;
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// Whoever drops a stream without a word has nothing more to say. When the queue is full the
/// end is not announced; the connection's own end tells it.
impl<T: Send + 'static, W: Fn(Piece) -> Option<T>> Drop for Outlet<T, W> {
    fn drop(&mut self) {
        if let (false, Some(queue)) = (self.ended, self.queue.get_ref())
            && let Some(end) = (self.wrap)(Piece::End)
        {
            let _ = queue.try_send(end);
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone")
}
