//! The frames of SPDY/3.1, as far as Kubernetes clients use them.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const CONTROL: u32 = 1 << 31;
const VERSION: u32 = 3;
/// No control frame that makes sense is bigger.
const LARGEST_CONTROL: usize = 64 * 1024;
/// Data is taken in pieces of at most this size, however big its frame is.
pub(super) const PIECE: usize = 32 * 1024;
const FIN: u8 = 1;

/// What the other side sends. The data of a data frame follows it, in pieces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A new stream, with its compressed headers.
    Open { id: u32, fin: bool, headers: Bytes },
    /// More headers of a stream. They must be decompressed to stay in step.
    Headers { headers: Bytes },
    /// So many bytes of a stream follow; with `fin` they are the last.
    Data { id: u32, fin: bool, length: usize },
    /// A stream ends at once.
    Reset { id: u32 },
    /// A sign of life is asked for.
    Ping { id: u32 },
    /// No more streams will come.
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// What is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A stream is accepted.
    Accept { id: u32 },
    /// Bytes of a stream; with `fin` they are the last.
    Data { id: u32, fin: bool, bytes: Bytes },
    /// A stream is refused or given up.
    Reset { id: u32 },
    /// A sign of life.
    Pong { id: u32 },
}

/// Reads the next frame, but for its data; `None` at the end.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Incoming>> {
    let mut head = [0; 8];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let [a, b, c, d, flags, e, f, g] = head;
    let (first, length) = (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([0, e, f, g]) as usize,
    );
    if first & CONTROL == 0 {
        return Ok(Some(Incoming::Data {
            id: first,
            fin: flags & FIN != 0,
            length,
        }));
    }
    if (first & !CONTROL) >> 16 != VERSION {
        return Err(wrong("a frame of another version than SPDY/3"));
    }
    if length > LARGEST_CONTROL {
        return Err(wrong("a control frame that is too big"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    control(first & 0xffff, flags, body.into()).map(Some)
}

fn control(kind: u32, flags: u8, body: Bytes) -> io::Result<Incoming> {
    let id = || {
        let bytes = body
            .first_chunk::<4>()
            .ok_or_else(|| wrong("a frame that is too short"))?;
        Ok::<u32, io::Error>(u32::from_be_bytes(*bytes) & !CONTROL)
    };
    let after = |count: usize| {
        let fits = body.len() >= count;
        fits.then(|| body.slice(count..))
            .ok_or_else(|| wrong("a frame that is too short"))
    };
    Ok(match kind {
        1 => Incoming::Open {
            id: id()?,
            fin: flags & FIN != 0,
            headers: after(10)?,
        },
        2 | 8 => Incoming::Headers { headers: after(4)? },
        3 => Incoming::Reset { id: id()? },
        6 => Incoming::Ping { id: id()? },
        7 => Incoming::GoAway,
        _ => Incoming::Other,
    })
}

impl Outgoing {
    /// Appends the frame as it goes over the wire.
    pub(super) fn write(&self, headers: &[u8], out: &mut BytesMut) {
        match self {
            Outgoing::Accept { id } => {
                control_head(out, 2, 4 + headers.len());
                out.put_u32(*id);
                out.put_slice(headers);
            }
            Outgoing::Data { id, fin, bytes } => {
                out.put_u32(*id);
                out.put_u8(u8::from(*fin) * FIN);
                // Pieces are far smaller than what three bytes can count.
                out.put_uint(bytes.len() as u64, 3);
                out.put_slice(bytes);
            }
            Outgoing::Reset { id } => {
                control_head(out, 3, 8);
                out.put_u32(*id);
                // Cancelled.
                out.put_u32(5);
            }
            Outgoing::Pong { id } => {
                control_head(out, 6, 4);
                out.put_u32(*id);
            }
        }
    }
}

fn control_head(out: &mut BytesMut, kind: u32, length: usize) {
    out.put_u32(CONTROL | VERSION << 16 | kind);
    // No flags, and lengths of control frames are small.
    out.put_u32(length as u32);
}

pub(super) fn wrong(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the client sent {what}"),
    )
}
