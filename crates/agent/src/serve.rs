//! The doors' ports.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, routing::get};
use futures::{StreamExt, stream};
use sandlot_api::agent::agent_service_server::AgentServiceServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{agent::Agent, grpc::GrpcDoor};

/// The largest message, in either direction: a batch of files.
const LARGEST_MESSAGE: usize = 64 << 20;
/// How much output is on its way before the client has to say that it got some.
const WINDOW: u32 = 1 << 20;
/// Connections waiting to be accepted.
const BACKLOG: u32 = 128;

/// Listens on a port of every address, of both families where the machine has both.
pub fn listen(port: u16) -> io::Result<TcpListener> {
    let everywhere = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    ];
    listen_at(everywhere[0]).or_else(|first| match first.kind() {
        io::ErrorKind::AddrInUse => Err(first),
        _ => listen_at(everywhere[1]),
    })
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
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
pub async fn serve_grpc(
    agent: Arc<Agent>,
    listeners: Vec<TcpListener>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let incoming = stream::select_all(listeners.into_iter().map(|listener| {
        stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await.map(|(connection, _)| {
                // Frames are small and wanted now; a socket that refuses is merely slower.
                let _ = connection.set_nodelay(true);
                connection
            });
            if accepted.is_err() {
                // Out of descriptors, most likely: let some close.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Some((accepted, listener))
        })
        .boxed()
    }));
    let service = AgentServiceServer::new(GrpcDoor::new(agent))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_concurrent_streams(256)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

/// Serves health over HTTP until told to stop.
pub async fn serve_health(listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
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
