//! One SPDY connection: frames in, frames out, and the streams between.

use std::collections::HashMap;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use super::frame::{self, Incoming, Outgoing, PIECE, wrong};
use super::headers::{self, Headers};
use crate::kubelet::{Reader, Writer};
use crate::stream::outlet::{Outlet, Piece};
use crate::stream::websocket::LINGER;

/// Frames that wait to be written.
const OUTGOING: usize = 16;
/// Pieces of a stream that wait to be read.
const INCOMING: usize = 8;
/// Streams that wait to be taken.
const WAITING: usize = 16;
/// Streams at one time; more are refused.
const STREAMS: usize = 512;

/// A stream that the client opened.
pub(crate) struct Stream {
    /// What the client says of it.
    pub(crate) headers: Headers,
    /// What the client sends.
    pub(crate) reader: Reader,
    /// What is sent to the client; shutting it down ends the stream.
    pub(crate) writer: Writer,
}

/// The streams of a connection as they are opened; `None` when no more will come.
pub(crate) type Connection = mpsc::Receiver<Stream>;

/// Takes up a connection. The future does the work, and ends with the connection: when the
/// client closes it, or once every stream and the receiver are dropped.
pub(crate) fn accept<T: AsyncRead + AsyncWrite + Send + 'static>(
    io: T,
) -> (Connection, impl Future<Output = io::Result<()>> + Send) {
    let (opened, streams) = mpsc::channel(WAITING);
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let work = async move {
        let (from, to) = tokio::io::split(io);
        let writing = write(to, queue);
        let receiving = Receiving {
            opened,
            outgoing: outgoing.downgrade(),
            headers: headers::Reader::new(),
            streams: HashMap::new(),
            last: 0,
        };
        let reading = receiving.run(BufReader::new(from), outgoing);
        tokio::pin!(reading);
        tokio::select! {
            written = writing => written?,
            read = &mut reading => return read,
        }
        // Closing a connection on which bytes still arrive would take back what was sent last.
        timeout(LINGER, reading).await.unwrap_or(Ok(()))
    };
    (streams, work)
}

/// Writes frames until nobody is left to send any.
async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    let mut headers = headers::Writer::new()?;
    let mut buffer = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        let block = match &frame {
            Outgoing::Accept { .. } => headers.write(&Headers::new())?,
            _ => Vec::new(),
        };
        frame.write(&block, &mut buffer);
        to.write_all_buf(&mut buffer).await?;
        if queue.is_empty() {
            to.flush().await?;
        }
    }
    to.shutdown().await
}

struct Receiving {
    opened: mpsc::Sender<Stream>,
    /// Only streams keep the writing side alive.
    outgoing: mpsc::WeakSender<Outgoing>,
    headers: headers::Reader,
    /// Where the bytes of each stream go.
    streams: HashMap<u32, mpsc::Sender<io::Result<Bytes>>>,
    last: u32,
}

impl Receiving {
    /// Reads frames until the client closes the connection. `alive` lets the first streams be
    /// made; it is let go once nobody takes streams any more.
    async fn run(
        mut self,
        mut from: impl AsyncRead + Unpin,
        alive: mpsc::Sender<Outgoing>,
    ) -> io::Result<()> {
        let mut alive = Some(alive);
        loop {
            let frame = {
                // Never dropped half way: that would lose the place in the stream of frames.
                let reading = frame::read(&mut from);
                tokio::pin!(reading);
                if alive.is_some() {
                    tokio::select! {
                        frame = &mut reading => frame?,
                        () = self.opened.closed() => {
                            alive = None;
                            reading.await?
                        }
                    }
                } else {
                    reading.await?
                }
            };
            match frame {
                None => return Ok(()),
                Some(Incoming::Data { id, fin, length }) => {
                    self.data(&mut from, id, fin, length).await?;
                }
                Some(frame) => self.control(frame).await?,
            }
        }
    }

    async fn control(&mut self, frame: Incoming) -> io::Result<()> {
        match frame {
            Incoming::Open { id, fin, headers } => self.open(id, fin, &headers).await?,
            Incoming::Headers { headers } => {
                self.headers.read(&headers)?;
            }
            Incoming::Reset { id } => {
                if let Some(stream) = self.streams.remove(&id) {
                    let reset = io::Error::new(
                        io::ErrorKind::ConnectionReset,
                        "the client reset the stream",
                    );
                    // Nobody may be reading any more.
                    let _ = stream.send(Err(reset)).await;
                }
            }
            // Even numbers answer pings of ours, and we send none.
            Incoming::Ping { id } if !id.is_multiple_of(2) => {
                self.send(Outgoing::Pong { id }).await
            }
            _ => {}
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, fin: bool, block: &[u8]) -> io::Result<()> {
        let headers = self.headers.read(block)?;
        if id.is_multiple_of(2) || id <= self.last {
            return Err(wrong("a stream with a number that is not its turn"));
        }
        self.last = id;
        self.streams.retain(|_, stream| !stream.is_closed());
        let Some(queue) = self.outgoing.upgrade() else {
            return Ok(());
        };
        if self.streams.len() >= STREAMS {
            self.send(Outgoing::Reset { id }).await;
            return Ok(());
        }
        let (pieces, received) = mpsc::channel(INCOMING);
        if !fin {
            self.streams.insert(id, pieces);
        }
        self.send(Outgoing::Accept { id }).await;
        let stream = Stream {
            headers,
            reader: Box::new(StreamReader::new(ReceiverStream::new(received))),
            writer: Box::new(Outlet::new(queue, move |piece| {
                Some(match piece {
                    Piece::Bytes(bytes) => Outgoing::Data {
                        id,
                        fin: false,
                        bytes,
                    },
                    Piece::End => Outgoing::Data {
                        id,
                        fin: true,
                        bytes: Bytes::new(),
                    },
                })
            })),
        };
        // When nobody takes streams any more, this one is dropped like the others.
        let _ = self.opened.send(stream).await;
        Ok(())
    }

    /// Passes on the data of a frame piece by piece, or past a stream that nobody reads.
    async fn data(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        id: u32,
        fin: bool,
        mut length: usize,
    ) -> io::Result<()> {
        while length > 0 {
            let mut piece = vec![0; length.min(PIECE)];
            from.read_exact(&mut piece).await?;
            length -= piece.len();
            if let Some(stream) = self.streams.get(&id) {
                let _ = stream.send(Ok(piece.into())).await;
            }
        }
        if fin {
            self.streams.remove(&id);
        }
        Ok(())
    }

    async fn send(&self, frame: Outgoing) {
        if let Some(queue) = self.outgoing.upgrade() {
            let _ = queue.send(frame).await;
        }
    }
}
