//! One connection, from the handshake to its end.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;
use super::request::Asked;
use super::stall::Stall;
use super::tls::user_of;
use super::{Answers, Limits, Tls};
use crate::access::{Gate, User};
use crate::aside::Aside;

/// The bytes with which every HTTP/2 client begins.
const GREETING: usize = 24;

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct Connection<S> {
    pub(crate) service: S,
    pub(crate) tls: Tls,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: Limits,
    /// The server stops: finish what runs, begin nothing new.
    pub(crate) stop: CancellationToken,
    /// The time to finish is over.
    pub(crate) give_up: CancellationToken,
}

impl<S: Answers> Connection<S> {
    pub(crate) async fn run(self, stream: TcpStream) {
        // Answers are written whole; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(self.tls.config.clone());
        let handshake = timeout(self.limits.handshake, acceptor.accept(stream));
        let stream = tokio::select! {
            () = self.stop.cancelled() => return,
            stream = handshake => stream,
        };
        match stream {
            Ok(Ok(stream)) => self.talk(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn talk(self, stream: TlsStream<TcpStream>) {
        let peer = peer(&stream);
        let Connection {
            service,
            gate,
            limits,
            stop,
            give_up,
            ..
        } = self;
        // Looked at whenever the connection wakes: one lock for all would be waited for.
        let stop = stop.child_token();
        let asked = Asked {
            service,
            gate,
            peer,
            deadline: limits.request,
            stop: stop.clone(),
        };
        let activity = Activity::new();
        let counted = activity.clone();
        let answer = service_fn(move |request: http::Request<Incoming>| {
            let (asked, begun) = (asked.clone(), counted.begin());
            async move {
                let answer = asked.answer(request).await;
                Ok::<_, std::convert::Infallible>(begun.answer(answer))
            }
        });
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let builder = builder(&limits, h2);
        let mut stream = Stall::new(stream, limits.stall);
        // From the first byte on, HTTP/1.1 has the deadline for the head.
        stream.expect(if h2 { GREETING } else { 1 }, limits.head);
        let stream = TokioIo::new(stream);
        let connection = builder.serve_connection_with_upgrades(stream, answer);
        tokio::pin!(connection);
        let leave = Aside::new()
            .or(stop.cancelled_owned())
            .or(async move { activity.idle(limits.idle).await });
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = leave => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = give_up.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended badly");
        }
    }
}

/// A server for the protocol that was agreed upon in the handshake.
fn builder(limits: &Limits, h2: bool) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if h2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes.max(8 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.requests_per_connection)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.head)
        .keep_alive_timeout(limits.head);
    builder
}

fn peer(stream: &TlsStream<TcpStream>) -> Option<Arc<User>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    user_of(certificate).map(Arc::new)
}
