//! The way in from the network: TLS, limits, hostile clients and leaving in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sandlot_cluster::access::{Gate, SigningKey, Tokens, User};
use sandlot_cluster::server::{Certificates, Limits, Tls, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// A server that answers `/whoami`, `/slow`, `/panic`, `/big` and watches.
struct Served {
    address: SocketAddr,
    certificates: Certificates,
    cancel: CancellationToken,
    running: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let user = request.extensions().get::<User>().unwrap().clone();
    let body = match request.uri().path() {
        // Without the hook, whose trace would hide what other tests print.
        "/panic" => std::panic::resume_unwind(Box::new("as asked")),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Body::empty()
        }
        "/soon" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Body::from("done")
        }
        "/big" => Body::from(vec![b'x'; 64 << 20]),
        "/watch" => Body::from_stream(async_stream()),
        _ => Body::from(format!("{} {:?}", user.name, user.groups)),
    };
    Ok(Response::new(body))
}

/// One event, and then silence for ever.
fn async_stream() -> impl futures::Stream<Item = Result<&'static str, Infallible>> {
    use futures::StreamExt;
    futures::stream::iter([Ok("event\n")]).chain(futures::stream::pending())
}

async fn served(limits: Limits) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::open(folder.path(), &[], Timestamp::now()).unwrap();
    let world = World::new();
    let tokens = Arc::new(Tokens::new(
        SigningKey::ephemeral().unwrap(),
        world.lookup(),
    ));
    let gate = Arc::new(Gate::new(tokens, world.authorizer()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let service = tower::service_fn(answer);
    let tls = Tls::new(&certificates).unwrap();
    let running = tokio::spawn(serve(service, listener, tls, gate, limits, cancel.clone()));
    Served {
        address,
        certificates,
        cancel,
        running,
        _folder: folder,
    }
}

impl Served {
    /// A connection; the administrator's when `admin`.
    async fn connect(&self, admin: bool, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let authority = self.certificates.authority.certificate.as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(authority).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if admin {
            let pair = &self.certificates.admin;
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    /// What the server says to a request on a connection of its own.
    async fn ask(&self, admin: bool, request: &str) -> String {
        let mut stream = self.connect(admin, "http/1.1").await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server that closes the connection without a word of TLS is still an answer.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_certificate_names_the_user_and_its_groups() {
    let served = served(Limits::default()).await;
    let answer = served.ask(true, &get("/whoami")).await;
    assert!(
        answer.ends_with("kubernetes-admin [\"system:masters\", \"system:authenticated\"]"),
        "{answer}"
    );
}

#[tokio::test]
async fn strangers_are_turned_away_with_a_status() {
    let served = served(Limits::default()).await;
    let answer = served.ask(false, &get("/whoami")).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(
        answer.contains("\"kind\":\"Status\"") && answer.contains("\"reason\":\"Unauthorized\""),
        "{answer}"
    );
    let answer = served.ask(false, &get("/livez")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn http_2_is_spoken_when_the_client_does() {
    let served = served(Limits::default()).await;
    let stream = served.connect(true, "h2").await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("https://localhost/whoami")
        .body(Body::empty())
        .unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (StatusCode::OK, http::Version::HTTP_2)
    );
    drop((client, answer));
    connection.abort();
}

#[tokio::test]
async fn a_panic_answers_500_and_the_server_lives_on() {
    let served = served(Limits::default()).await;
    let answer = served.ask(true, &get("/panic")).await;
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.contains("InternalError"),
        "{answer}"
    );
    assert!(
        !answer.contains("as asked"),
        "what the panic said stays in the log: {answer}"
    );
    assert!(
        served
            .ask(true, &get("/whoami"))
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_request_that_takes_too_long_answers_504() {
    let limits = Limits {
        request: Duration::from_millis(50),
        ..Limits::default()
    };
    let served = served(limits).await;
    let answer = served.ask(true, &get("/slow")).await;
    assert!(
        answer.starts_with("HTTP/1.1 504") && answer.contains("Timeout"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_ends_the_connection() {
    let limits = Limits {
        head: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = served(limits).await;
    let started = Instant::now();
    let answer = served.ask(true, "GET /whoami HTTP/1.1\r\nHost: loc").await;
    assert!(!answer.contains("kubernetes-admin"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_dropped() {
    let limits = Limits {
        handshake: Duration::from_millis(50),
        ..Limits::default()
    };
    let served = served(limits).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert!(said.is_empty());
}

#[tokio::test]
async fn a_client_that_never_begins_to_speak_is_dropped() {
    for protocol in ["http/1.1", "h2"] {
        let limits = Limits {
            head: Duration::from_millis(100),
            ..Limits::default()
        };
        let served = served(limits).await;
        let mut stream = served.connect(true, protocol).await;
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said);
        let end = tokio::time::timeout(Duration::from_secs(5), end).await;
        assert!(end.is_ok(), "{protocol}: the connection is still open");
    }
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_and_a_watch_is_use() {
    let limits = Limits {
        idle: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = served(limits).await;
    let mut idle = served.connect(true, "http/1.1").await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    idle.write_all(ask("/whoami").as_bytes()).await.unwrap();
    let mut watch = served.connect(true, "http/1.1").await;
    watch
        .write_all(ask("/watch?watch=true").as_bytes())
        .await
        .unwrap();
    let mut said = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), idle.read_to_end(&mut said)).await;
    assert!(closed.is_ok() && !said.is_empty());
    let mut seen = String::new();
    while !seen.contains("event") {
        let mut part = [0; 1024];
        let count = watch.read(&mut part).await.unwrap();
        seen.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(500), watch.read_u8()).await;
    assert!(more.is_err(), "the watch goes on: {more:?}");
}

#[tokio::test]
async fn a_head_that_is_too_big_is_refused() {
    let served = served(Limits {
        head_bytes: 16 * 1024,
        ..Limits::default()
    })
    .await;
    let long = "x".repeat(64 * 1024);
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n");
    let answer = served.ask(true, &request).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer:.100}"
    );
}

#[tokio::test]
async fn more_clients_than_there_is_room_for_wait_their_turn() {
    let served = served(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let first = served.connect(true, "http/1.1").await;
    let second = served.ask(
        true,
        "GET /whoami HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n",
    );
    tokio::pin!(second);
    tokio::select! {
        answer = &mut second => panic!("served beside the first: {answer}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    drop(first);
    assert!(second.await.contains("kubernetes-admin"));
}

#[tokio::test]
async fn a_client_that_stops_reading_is_dropped() {
    let served = served(Limits {
        stall: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let mut stream = served.connect(true, "http/1.1").await;
    stream.write_all(get("/big").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    assert!(read.len() < 64 << 20, "all of it came");
}

#[tokio::test]
async fn stopping_ends_watches_and_lets_requests_finish() {
    let served = served(Limits::default()).await;
    let mut watch = served.connect(true, "http/1.1").await;
    let head = "GET /watch?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n";
    watch.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("event") {
        let mut part = [0; 1024];
        let count = watch.read(&mut part).await.unwrap();
        seen.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    let request = get("/soon");
    let soon = served.ask(true, &request);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        served.cancel.cancel();
    };
    let (answer, ()) = tokio::join!(soon, stop);
    assert!(answer.ends_with("done"), "{answer}");
    let mut rest = String::new();
    watch.read_to_string(&mut rest).await.unwrap();
    assert!(
        rest.ends_with("0\r\n\r\n"),
        "the watch ends properly: {rest:?}"
    );
    tokio::time::timeout(Duration::from_secs(2), served.running)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_never_finishes_does_not_keep_the_server() {
    let served = served(Limits {
        drain: Duration::from_millis(100),
        ..Limits::default()
    })
    .await;
    let mut slow = served.connect(true, "http/1.1").await;
    slow.write_all(get("/slow").as_bytes()).await.unwrap();
    // The server has the request once it no longer answers the next one on the connection.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    served.cancel.cancel();
    served.running.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn garbage_instead_of_tls_or_http_hurts_nobody() {
    let served = served(Limits::default()).await;
    let mut plain = TcpStream::connect(served.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    let answer = served.ask(true, "\u{1}\u{2}rubbish\r\n\r\n").await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(served.ask(true, &get("/whoami")).await.contains("200 OK"));
}
