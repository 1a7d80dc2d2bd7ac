//! The doors' ports, and who gets through them.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{Json, Router, routing::get};
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use sandlot_api::{
    agent::agent_service_server::AgentServiceServer, executor::executor_server::ExecutorServer,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{executor::ExecutorDoor, grpc::GrpcDoor};

/// The largest message, in either direction: a batch of files.
const LARGEST_MESSAGE: usize = 64 << 20;
/// How much output is on its way before the client has to say that it got some.
const WINDOW: u32 = 1 << 20;
/// How long a caller may take to prove who it is.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many callers may be proving it at the same time.
const HANDSHAKES: usize = 32;
/// Connections waiting to be accepted.
const BACKLOG: u32 = 128;

/// Listens on a port of every address, of both families where the machine has both.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let everywhere = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    ];
    listen_at(everywhere[0]).or_else(|first| match first.kind() {
        io::ErrorKind::AddrInUse => Err(first),
        _ => listen_at(everywhere[1]),
    })
}

pub(crate) fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        TcpSocket::new_v6()
    } else {
        TcpSocket::new_v4()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves gRPC on these listeners until told to stop.
pub(crate) async fn serve_grpc(
    door: GrpcDoor,
    executor: ExecutorDoor,
    listeners: Vec<TcpListener>,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = AgentServiceServer::new(door)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_concurrent_streams(256)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(service)
        .add_service(ExecutorServer::new(executor).max_decoding_message_size(LARGEST_MESSAGE));
    let accepted = stream::select_all(
        listeners
            .into_iter()
            .map(|listener| accept(listener).boxed()),
    );
    let stopped = stop.cancelled_owned();
    match tls {
        None => server.serve_with_incoming_shutdown(accepted, stopped).await,
        Some(tls) => {
            server
                .serve_with_incoming_shutdown(secured(accepted, tls), stopped)
                .await
        }
    }
}

/// Connections as they come. Being out of descriptors, say, is waited out.
fn accept(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    // Frames are small and wanted now; a socket that refuses is merely slower.
                    let _ = connection.set_nodelay(true);
                    return Some((Ok(connection), listener));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
}

/// Only the connections whose callers proved who they are. Handshakes are done side by side,
/// so that one who never finishes keeps nobody waiting, and only so many at once.
fn secured(
    connections: impl Stream<Item = io::Result<TcpStream>>,
    tls: TlsAcceptor,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    connections
        .map(move |connection| {
            let tls = tls.clone();
            async move { tokio::time::timeout(HANDSHAKE, tls.accept(connection?)).await? }
        })
        .buffer_unordered(HANDSHAKES)
        // Who fails to prove it is not worth a word: anybody in the pod could fill the log.
        .filter(|secured| std::future::ready(secured.is_ok()))
}

/// Serves these HTTP routes to those who may call, until told to stop.
pub(crate) async fn serve_routes(
    routes: Router,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) -> io::Result<()> {
    let stopped = stop.cancelled_owned();
    match tls {
        None => {
            axum::serve(listener, routes)
                .with_graceful_shutdown(stopped)
                .await
        }
        Some(tls) => {
            let local = listener.local_addr()?;
            let connections = Secured {
                connections: secured(accept(listener), tls).boxed(),
                local,
            };
            axum::serve(connections, routes)
                .with_graceful_shutdown(stopped)
                .await
        }
    }
}

/// Proven connections as a listener.
struct Secured {
    connections: BoxStream<'static, io::Result<TlsStream<TcpStream>>>,
    local: SocketAddr,
}

impl axum::serve::Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.connections.next().await {
                Some(Ok(connection)) => {
                    // Only for logs; a connection that is closing already has none.
                    let from = connection.get_ref().0.peer_addr().unwrap_or(self.local);
                    return (connection, from);
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.local)
    }
}

/// Serves health over HTTP until told to stop.
pub(crate) async fn serve_health(listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route(
            "/health",
            get(|| async { Json(serde_json::json!({ "status": "healthy" })) }),
        )
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}
