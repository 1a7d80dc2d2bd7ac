//! Exec and attach, whatever the wire.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::options::Remote;
use super::outcome::status;
use super::spdy;
use super::websocket::size;
use crate::kubelet::{ContainerRef, Kubelet, Streams, TerminalSize, Writer};

/// The protocols that are spoken over SPDY.
pub(super) const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// How long a client may take to open its streams.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sizes of a terminal that wait to be taken.
const SIZES: usize = 16;

/// What runs at the far end of the streams; it returns the Status that ends them.
pub(super) trait Work: Send {
    fn run(self, streams: Streams) -> impl Future<Output = Value> + Send;
}

/// A command in a container, or its main process.
pub(super) struct InContainer {
    pub(super) kubelet: Arc<dyn Kubelet>,
    pub(super) container: ContainerRef,
    /// Empty to attach.
    pub(super) command: Vec<String>,
}

impl Work for InContainer {
    async fn run(self, streams: Streams) -> Value {
        let command = self.command.clone();
        let outcome = if command.is_empty() {
            self.kubelet.attach(self.container, streams).await
        } else {
            self.kubelet
                .exec(self.container, self.command, streams)
                .await
        };
        status(&command, &outcome)
    }
}

/// Lets a command talk to the client over SPDY until either has had enough.
pub(super) async fn serve_spdy<T: AsyncRead + AsyncWrite + Send + 'static>(
    io: T,
    asked: &Remote,
    work: impl Work,
) {
    let (opened, connection) = spdy::accept(io);
    let working = async {
        if let Ok(Some(gathered)) = timeout(PATIENCE, gather(opened, asked)).await {
            gathered.run(work).await;
        }
    };
    tokio::pin!(connection);
    tokio::select! {
        // The client left: dropping the work ends the command.
        _ = &mut connection => return,
        () = working => {}
    }
    let _ = connection.await;
}

/// The streams of an exec or attach, all there.
struct Gathered {
    streams: Streams,
    /// Carries the outcome.
    error: spdy::Stream,
    /// The way back on stdin. Clients take its end for the end of the command.
    stdin: Option<Writer>,
    /// Carries the sizes of the terminal, to where the command reads them.
    resize: Option<(spdy::Stream, mpsc::Sender<TerminalSize>)>,
}

impl Gathered {
    async fn run(self, work: impl Work) {
        let Gathered {
            streams,
            mut error,
            stdin,
            resize,
        } = self;
        let working = async {
            let status = work.run(streams).await;
            // The client may be gone, and then nobody minds.
            let _ = error.writer.write_all(status.to_string().as_bytes()).await;
            let _ = error.writer.shutdown().await;
        };
        let resizing = async {
            if let Some((from, to)) = resize {
                pass_sizes(from, to).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = working => drop(stdin),
            () = resizing => {}
        }
    }
}

/// Waits for every stream that the client asked for, and for the one that carries the outcome.
async fn gather(mut opened: spdy::Connection, asked: &Remote) -> Option<Gathered> {
    let (to, sizes) = mpsc::channel(SIZES);
    let mut streams = Streams {
        stdin: None,
        stdout: None,
        stderr: None,
        tty: asked.tty,
        resize: sizes,
    };
    let (mut error, mut stdin, mut resize) = (None, None, None);
    loop {
        let complete = streams.stdin.is_some() == asked.stdin
            && streams.stdout.is_some() == asked.stdout
            && streams.stderr.is_some() == asked.stderr
            && resize.is_some() == asked.tty;
        if complete && let Some(error) = error {
            let resize = resize.map(|stream| (stream, to));
            return Some(Gathered {
                streams,
                error,
                stdin,
                resize,
            });
        }
        let stream = opened.recv().await?;
        match stream.headers.get("streamtype").map(String::as_str) {
            Some("error") => error = Some(stream),
            Some("stdin") if asked.stdin => {
                (streams.stdin, stdin) = (Some(stream.reader), Some(stream.writer));
            }
            Some("stdout") if asked.stdout => streams.stdout = Some(stream.writer),
            Some("stderr") if asked.stderr => streams.stderr = Some(stream.writer),
            Some("resize") if asked.tty => resize = Some(stream),
            _ => {}
        }
    }
}

/// Passes on the sizes of a terminal: JSON texts, one after the other.
async fn pass_sizes(mut from: spdy::Stream, to: mpsc::Sender<TerminalSize>) {
    let mut text = Vec::new();
    let mut piece = [0; 256];
    while let Ok(count @ 1..) = from.reader.read(&mut piece).await {
        for byte in piece.iter().take(count) {
            text.push(*byte);
            if *byte == b'}' {
                // When sizes come faster than the command takes them, some are left out.
                if let Some(size) = size(&text) {
                    let _ = to.try_send(size);
                }
                text.clear();
            }
        }
        if text.len() > 256 {
            return;
        }
    }
}
