//! Port-forward: connections to ports inside a pod.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, duplex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::io::{ReaderStream, StreamReader};

use super::options::port;
use super::spdy::{self, Stream};
use super::websocket::{self, channel};
use crate::kubelet::{Kubelet, Reader, Writer};

/// The protocol over SPDY.
pub(super) const SPDY: &str = "portforward.k8s.io";
/// SPDY inside a WebSocket, as kubectl 1.30 and newer like it best.
pub(super) const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// Channels of a WebSocket, two for each port of the query.
pub(super) const CHANNELS: &str = "v4.channel.k8s.io";

/// Connections at one time.
const CONNECTIONS: usize = 128;
/// Half pairs that wait for their other half.
const HALVES: usize = 64;
/// Bytes between a WebSocket and the SPDY inside.
const BUFFER: usize = 64 * 1024;
/// Messages that wait to be written or read.
const WAITING: usize = 16;

/// A pod whose ports are connected to.
#[derive(Clone)]
pub(super) struct Pod {
    pub(super) kubelet: Arc<dyn Kubelet>,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Pod {
    /// Connects to a port, or says why not, in the words that clients print.
    async fn connect(&self, port: u16) -> Result<(Reader, Writer), String> {
        let connected = self
            .kubelet
            .connect(self.namespace.clone(), self.name.clone(), port)
            .await;
        connected.map_err(|error| {
            format!(
                "error forwarding port {port} to pod {}/{}: {error}",
                self.namespace, self.name
            )
        })
    }
}

/// Serves connections over SPDY until the client leaves.
pub(super) async fn serve_spdy<T: AsyncRead + AsyncWrite + Send + 'static>(io: T, pod: &Pod) {
    let (mut opened, connection) = spdy::accept(io);
    let mut halves: HashMap<(String, String), Stream> = HashMap::new();
    let mut running = FuturesUnordered::new();
    let serving = async {
        loop {
            tokio::select! {
                Some(()) = running.next() => {}
                stream = opened.recv() => {
                    let Some(stream) = stream else { break };
                    // Beyond the limit they are dropped: if they waited, so would all others.
                    if let Some((error, data, port)) = pair(&mut halves, stream)
                        && running.len() < CONNECTIONS
                    {
                        running.push(forward(pod, error, data, port));
                    }
                }
            }
        }
        while running.next().await.is_some() {}
    };
    tokio::select! {
        _ = connection => {}
        () = serving => {}
    }
}

/// The two streams of a connection, once both are there, and its port.
fn pair(
    halves: &mut HashMap<(String, String), Stream>,
    stream: Stream,
) -> Option<(Stream, Stream, String)> {
    let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
    let (kind, port) = (header("streamtype"), header("port"));
    let key = (header("requestid"), port.clone());
    let Some(other) = halves.remove(&key) else {
        if halves.len() < HALVES {
            halves.insert(key, stream);
        }
        return None;
    };
    let other_kind = other.headers.get("streamtype").map(String::as_str);
    match (kind.as_str(), other_kind) {
        ("data", Some("error")) => Some((other, stream, port)),
        ("error", Some("data")) => Some((stream, other, port)),
        _ => None,
    }
}

/// One connection. What goes wrong is written to the error stream.
async fn forward(pod: &Pod, mut error: Stream, data: Stream, wanted: String) {
    let connected = match port(&wanted) {
        Ok(port) => pod.connect(port).await,
        Err(wrong) => Err(wrong.message),
    };
    match connected {
        Ok((from_pod, to_pod)) => exchange(data.reader, data.writer, from_pod, to_pod).await,
        // The client may be gone, and then nobody minds.
        Err(why) => drop(error.writer.write_all(why.as_bytes()).await),
    }
    let _ = error.writer.shutdown().await;
}

/// Copies both ways until the pod has said everything. The client may stop earlier.
async fn exchange(mut from: Reader, mut to: Writer, mut from_pod: Reader, mut to_pod: Writer) {
    let up = async {
        let copied = copy(&mut from, &mut to_pod).await;
        let _ = to_pod.shutdown().await;
        if copied.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let down = async {
        let _ = copy(&mut from_pod, &mut to).await;
        let _ = to.shutdown().await;
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Serves SPDY that comes in the messages of a WebSocket.
pub(super) async fn serve_tunnelled<T: AsyncRead + AsyncWrite + Unpin + Send>(io: T, pod: &Pod) {
    let (mut sink, mut source) = websocket::accept(io).await.split();
    let (inside, outside) = duplex(BUFFER);
    let (from_inside, mut to_inside) = tokio::io::split(outside);
    let reading = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                // Nobody may be listening any more, and the client still reads.
                Message::Binary(bytes) => drop(to_inside.write_all(&bytes).await),
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    let writing = async {
        let mut pieces = ReaderStream::with_capacity(from_inside, BUFFER / 2);
        while let Some(Ok(piece)) = pieces.next().await {
            if sink.send(Message::Binary(piece)).await.is_err() {
                break;
            }
        }
        websocket::goodbye(sink).await;
    };
    // All is said once the SPDY connection inside has ended and all of it is sent.
    let talking = async { tokio::join!(serve_spdy(inside, pod), writing) };
    websocket::until_left(talking, reading).await;
}

/// Serves channels: port `n` of the query has data on channel `2n` and errors on `2n + 1`,
/// and each begins with the port's number.
pub(super) async fn serve_channels<T: AsyncRead + AsyncWrite + Unpin + Send>(
    io: T,
    pod: &Pod,
    ports: &[u16],
) {
    let (sink, mut source) = websocket::accept(io).await.split();
    let (outgoing, queue) = mpsc::channel(WAITING);
    let mut inlets: Vec<mpsc::Sender<std::io::Result<Bytes>>> = Vec::new();
    let mut running = FuturesUnordered::new();
    // Channels are counted in one byte, which the request was checked for.
    for (port, number) in ports.iter().copied().zip((0..=u8::MAX).step_by(2)) {
        let (inlet, received) = mpsc::channel(WAITING);
        inlets.push(inlet);
        let outgoing = outgoing.clone();
        running.push(async move {
            let number_first = Bytes::copy_from_slice(&port.to_le_bytes());
            for number in [number, number + 1] {
                let _ = outgoing.send((number, number_first.clone())).await;
            }
            match pod.connect(port).await {
                Ok((from_pod, to_pod)) => {
                    let from = Box::new(StreamReader::new(ReceiverStream::new(received)));
                    exchange(from, channel(outgoing, number), from_pod, to_pod).await;
                }
                Err(why) => drop(outgoing.send((number + 1, why.into())).await),
            }
        });
    }
    drop(outgoing);
    let reading = async {
        while let Some(Ok(message)) = source.next().await {
            let Message::Binary(bytes) = message else {
                if message.is_close() {
                    break;
                }
                continue;
            };
            let inlet = bytes.first().filter(|number| number.is_multiple_of(2));
            let inlet = inlet.and_then(|number| inlets.get(usize::from(number / 2)));
            if let Some(inlet) = inlet {
                let _ = inlet.send(Ok(bytes.slice(1..))).await;
            }
        }
    };
    let working = async { while running.next().await.is_some() {} };
    let talking = async { tokio::join!(working, websocket::write(sink, queue)) };
    websocket::until_left(talking, reading).await;
}
