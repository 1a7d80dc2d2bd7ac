//! The way in from outside: TLS, connections and their limits, and stopping in order.

mod activity;
pub mod certificates;
mod connection;
mod kubeconfig;
mod limits;
mod listen;
mod request;
pub(crate) mod secret_file;
mod stall;
mod tls;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use certificates::{CertificateError, Certificates};
pub(crate) use certificates::{authority, signing_key};
pub use kubeconfig::{kubeconfig, write_kubeconfig};
pub use limits::Limits;
pub use listen::{Listen, ListenError, Listening};
pub use tls::Tls;

use crate::access::Gate;
use connection::Connection;

/// What answers requests: it never fails, it answers with a Status.
///
/// Who asks stands in the request's extensions as a [`User`](crate::access::User).
pub trait Answers:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answers for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves the API to the network until it is cancelled.
///
/// Then it accepts no more, ends watches and streams, lets other requests finish for as long
/// as [`Limits::drain`] says, and returns once every connection is closed.
pub async fn serve(
    service: impl Answers,
    listener: TcpListener,
    tls: Tls,
    gate: Arc<Gate>,
    limits: Limits,
    cancel: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    // Cancelled once the time to drain is over.
    let give_up = CancellationToken::new();
    let connection = Connection {
        service,
        tls,
        gate,
        limits,
        stop: cancel.clone(),
        give_up,
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = connection.clone();
                connections.spawn(async move {
                    connection.run(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Usually too many open files: wait for some to be closed.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(connection.limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::info!(
            open = connections.len(),
            "closing connections that did not finish in time"
        );
        connection.give_up.cancel();
        connections.wait().await;
    }
}

/// A connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}
