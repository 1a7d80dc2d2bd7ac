//! The listener and its connections: how many there may be, and how long any of them may keep
//! us waiting.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::timeout::TimeoutBody;

use crate::unwanted::{Heard, Unwanted};

/// What connections may take of the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// So many at one time; more wait to be accepted.
    pub(crate) connections: usize,
    /// How long the head of a request may take to come, and the next request.
    pub(crate) head: Duration,
    /// How large the head may be.
    pub(crate) head_bytes: usize,
    /// How long nothing may come of a body that has begun.
    pub(crate) body: Duration,
    /// How long nothing may be read of an answer.
    pub(crate) stall: Duration,
    /// For how long, and how much, is read of a body that nobody wants to the end.
    pub(crate) unwanted: Unwanted,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            head: Duration::from_secs(30),
            head_bytes: 64 << 10,
            body: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            unwanted: Unwanted {
                time: Duration::from_secs(30),
                bytes: 1 << 30,
            },
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves until told to stop; what is under way is finished first.
pub(crate) async fn serve(
    app: Router,
    listener: TcpListener,
    limits: Limits,
    stop: CancellationToken,
) {
    // They end with this future, should it be given up.
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < limits.connections;
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if has_room => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let talking = talk(app.clone(), stream, Peer(peer), limits, stop.clone());
                connections.spawn(talking);
            }
            Err(error) => {
                // Usually too many open files: wait for some to be closed.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn talk(app: Router, stream: TcpStream, peer: Peer, limits: Limits, stop: CancellationToken) {
    // Answers are written whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    // The time for a head begins with its first byte; that one has to come, too.
    let spoken = tokio::time::timeout(limits.head, stream.peek(&mut [0])).await;
    if !matches!(spoken, Ok(Ok(1..))) {
        return;
    }
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(limits.stall));
    let stopping = stop.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        let waits = request.headers().contains_key(header::EXPECT);
        let mut request = request.map(|body| {
            let body = TimeoutBody::new(limits.body, body);
            Body::new(Heard::new(body, waits, limits.unwanted, stopping.clone()))
        });
        request.extensions_mut().insert(peer);
        app.clone().oneshot(request)
    });
    let builder = builder(&limits);
    let stream = TokioIo::new(Box::pin(stream));
    let connection = builder.serve_connection(stream, answer).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %peer.0, "a connection ended badly");
    }
}

/// Finding out which of two protocols is spoken would wait for the first words for ever: this
/// is HTTP/1.1 alone.
fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes);
    builder
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::{
        http::StatusCode,
        routing::{get, post},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::JoinHandle,
    };

    use super::*;

    const QUICK: Limits = Limits {
        connections: 2,
        head: Duration::from_millis(200),
        head_bytes: 8 << 10,
        body: Duration::from_millis(200),
        stall: Duration::from_millis(200),
        unwanted: Unwanted {
            time: Duration::from_millis(500),
            bytes: 64 << 20,
        },
    };

    async fn start(limits: Limits) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let app = Router::new()
            .route("/", get(|| async { "hello" }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                    "done"
                }),
            )
            .route("/much", get(|| async { vec![b'x'; 64 << 20] }))
            .route(
                "/take",
                post(|body: axum::body::Bytes| async move { body.len().to_string() }),
            )
            .route("/refuse", post(|| async { StatusCode::PAYLOAD_TOO_LARGE }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(app, listener, limits, stop.clone()));
        (address, stop, serving)
    }

    async fn say(address: SocketAddr, words: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        stream
    }

    /// All that is answered until the connection is closed.
    async fn hear(mut stream: TcpStream) -> String {
        let mut heard = Vec::new();
        let reading = stream.read_to_end(&mut heard);
        let _ = tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .expect("it is closed");
        String::from_utf8_lossy(&heard).into_owned()
    }

    #[tokio::test]
    async fn who_says_nothing_is_hung_up_on() {
        let (address, ..) = start(QUICK).await;
        for words in ["", "PRI * HTTP/"] {
            hear(say(address, words).await).await;
        }
    }

    #[tokio::test]
    async fn who_does_not_finish_a_head_is_hung_up_on() {
        let (address, ..) = start(QUICK).await;
        let asked = Instant::now();
        hear(say(address, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await).await;
        assert!(asked.elapsed() >= QUICK.head);
    }

    #[tokio::test]
    async fn who_does_not_finish_a_body_is_answered_and_hung_up_on() {
        let (address, ..) = start(QUICK).await;
        let stuck = "POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc";
        let heard = hear(say(address, stuck).await).await;
        assert!(heard.starts_with("HTTP/1.1 400"), "{heard}");
    }

    fn refused(length: usize, more: &str) -> String {
        format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n")
    }

    #[tokio::test]
    async fn who_sends_too_much_and_looks_up_only_then_finds_the_answer() {
        let (address, ..) = start(QUICK).await;
        let body = vec![b'x'; 32 << 20];
        let mut stream = say(address, &refused(body.len(), "")).await;
        stream.write_all(&body).await.unwrap();
        // The connection is as good as before.
        let next = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(next).await.unwrap();
        let heard = hear(stream).await;
        assert!(
            heard.starts_with("HTTP/1.1 413") && heard.ends_with("hello"),
            "{heard}"
        );
    }

    #[tokio::test]
    async fn who_goes_on_sending_is_hung_up_on() {
        let (address, ..) = start(QUICK).await;
        // Longer than there is time for, and more than is read.
        for (piece, pause) in [(1, Duration::from_millis(20)), (1 << 20, Duration::ZERO)] {
            let mut stream = say(address, &refused(1 << 40, "")).await;
            let asked = Instant::now();
            while stream.write_all(&vec![b'x'; piece]).await.is_ok() {
                assert!(asked.elapsed() < Duration::from_secs(20));
                tokio::time::sleep(pause).await;
            }
        }
    }

    #[tokio::test]
    async fn who_waits_to_be_asked_for_a_body_that_is_refused_is_not_waited_for() {
        let long = Duration::from_secs(15);
        let unwanted = Unwanted {
            time: long,
            bytes: 10,
        };
        let (address, ..) = start(Limits {
            body: long,
            unwanted,
            ..QUICK
        })
        .await;
        let asked = Instant::now();
        let words = refused(5, "Expect: 100-continue\r\n");
        let heard = hear(say(address, &words).await).await;
        assert!(heard.starts_with("HTTP/1.1 413"), "{heard}");
        assert!(asked.elapsed() < long);
    }

    #[tokio::test]
    async fn who_does_not_read_is_hung_up_on_and_makes_room() {
        let (address, ..) = start(Limits {
            connections: 1,
            ..QUICK
        })
        .await;
        let _deaf = say(address, "GET /much HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let heard = hear(
            say(
                address,
                "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .await,
        )
        .await;
        assert!(heard.ends_with("hello"), "{heard}");
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_any_of_these() {
        let (address, ..) = start(QUICK).await;
        let heard = hear(
            say(
                address,
                "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .await,
        )
        .await;
        assert!(heard.ends_with("done"), "{heard}");
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let (address, ..) = start(QUICK).await;
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
            "y".repeat(16 << 10)
        );
        let heard = hear(say(address, &head).await).await;
        assert!(heard.starts_with("HTTP/1.1 431"), "{heard}");
    }

    #[tokio::test]
    async fn what_is_under_way_is_finished_when_it_is_stopped() {
        let (address, stop, serving) = start(QUICK).await;
        let asked = say(address, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        assert!(hear(asked).await.contains("done"));
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
