//! Exec and attach over a WebSocket: every message begins with the number of its channel.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_util::io::StreamReader;

use super::options::Remote;
use super::outlet::{Outlet, Piece};
use super::remote::Work;
use crate::kubelet::{Streams, TerminalSize, Writer};

/// The protocols that are spoken; only the first can close stdin alone.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// How long a client may take to read the rest and leave, once all is said: some megabytes may
/// still be on their way to it, over a slow line or to a busy machine.
pub(super) const LINGER: Duration = Duration::from_secs(300);
/// No message may be bigger.
const LARGEST: usize = 1024 * 1024;
/// Messages that wait to be written or read.
const WAITING: usize = 16;

/// A message on a channel, on its way to the client.
pub(super) type Outgoing = (u8, Bytes);

/// The server's side of a WebSocket.
pub(super) async fn accept<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Lets a command talk to the client until either has had enough.
pub(super) async fn serve<T: AsyncRead + AsyncWrite + Unpin + Send>(
    io: T,
    asked: &Remote,
    work: impl Work,
) {
    let (sink, source) = accept(io).await.split();
    let (outgoing, queue) = mpsc::channel(WAITING);
    let (stdin, typed) = mpsc::channel(WAITING);
    let (resize, sizes) = mpsc::channel(WAITING);
    let outlet = |wanted: bool, number: u8| wanted.then(|| channel(outgoing.clone(), number));
    let streams = Streams {
        stdin: asked
            .stdin
            .then(|| Box::new(StreamReader::new(ReceiverStream::new(typed))) as _),
        stdout: outlet(asked.stdout, STDOUT),
        stderr: outlet(asked.stderr, STDERR),
        tty: asked.tty,
        resize: sizes,
    };
    let working = async {
        let status = work.run(streams).await;
        // The client may be gone, and then nobody minds.
        let _ = outgoing.send((ERROR, status.to_string().into())).await;
        drop(outgoing);
    };
    let writing = write(sink, queue);
    let reading = read(source, asked.stdin.then_some(stdin), resize);
    // When the client leaves, dropping the work ends the command.
    until_left(async { tokio::join!(working, writing) }, reading).await;
}

/// Talks and listens until the client leaves, or all is said and the client has had its time to
/// read it.
pub(super) async fn until_left<T>(
    talking: impl Future<Output = T>,
    listening: impl Future<Output = ()>,
) {
    tokio::pin!(listening);
    tokio::select! {
        _ = talking => {}
        () = &mut listening => return,
    }
    // Closing a connection on which bytes still arrive would take back what was sent last.
    let _ = timeout(LINGER, listening).await;
}

/// A way to write to a channel.
pub(super) fn channel(queue: mpsc::Sender<Outgoing>, number: u8) -> Writer {
    Box::new(Outlet::new(queue, move |piece| match piece {
        Piece::Bytes(bytes) => Some((number, bytes)),
        // There is no message for it: the channels end with the connection.
        Piece::End => None,
    }))
}

/// Sends what is in the queue, and says goodbye when no more can come.
pub(super) async fn write(
    mut sink: impl SinkExt<Message, Error = tungstenite::Error> + Unpin,
    mut queue: mpsc::Receiver<Outgoing>,
) {
    while let Some((number, bytes)) = queue.recv().await {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(number);
        message.extend_from_slice(&bytes);
        if sink.send(Message::Binary(message.into())).await.is_err() {
            return;
        }
    }
    goodbye(sink).await;
}

/// Says that all went as it should; clients take a silent end for a failure.
pub(super) async fn goodbye(mut sink: impl SinkExt<Message, Error = tungstenite::Error> + Unpin) {
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    };
    // The client may be gone, and then nobody minds.
    let _ = sink.send(Message::Close(Some(frame))).await;
}

/// Takes in what the client sends, until it leaves.
async fn read(
    mut source: impl StreamExt<Item = Result<Message, tungstenite::Error>> + Unpin,
    mut stdin: Option<mpsc::Sender<std::io::Result<Bytes>>>,
    resize: mpsc::Sender<TerminalSize>,
) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            _ => continue,
        };
        let Some((number, rest)) = bytes.split_first() else {
            continue;
        };
        match *number {
            STDIN if !rest.is_empty() => {
                if let Some(stdin) = &stdin {
                    // A command that reads no more does not end the connection.
                    let _ = stdin.send(Ok(bytes.slice(1..))).await;
                }
            }
            // When sizes come faster than the command takes them, some are left out.
            RESIZE => {
                if let Some(size) = size(rest) {
                    let _ = resize.try_send(size);
                }
            }
            CLOSE if rest.first() == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
}

/// The size of a terminal, as clients write it.
pub(super) fn size(json: &[u8]) -> Option<TerminalSize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let size: Size = serde_json::from_slice(json).ok()?;
    Some(TerminalSize {
        width: size.width,
        height: size.height,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Says a word, and is done.
    struct Says;

    impl Work for Says {
        async fn run(self, mut streams: Streams) -> Value {
            let mut stdout = streams.stdout.take().unwrap();
            stdout.write_all(b"hello").await.unwrap();
            json!({"status": "Success"})
        }
    }

    async fn says(io: DuplexStream) {
        let asked = Remote {
            stdout: true,
            ..Remote::default()
        };
        serve(io, &asked, Says).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_slow_to_read_is_waited_for() {
        let (near, far) = duplex(1024);
        let serving = tokio::spawn(says(far));
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        sleep(LINGER - Duration::from_secs(1)).await;
        let still = client.send(Message::Ping(Bytes::new())).await;
        assert!(still.is_ok(), "the connection is closed already: {still:?}");
        let said = client.next().await.unwrap().unwrap();
        assert_eq!(said.into_data(), b"\x01hello".as_slice());
        drop(client);
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_leaves_is_left() {
        let (_client, far) = duplex(1024);
        let begun = Instant::now();
        says(far).await;
        assert_eq!(begun.elapsed(), LINGER);
    }
}
