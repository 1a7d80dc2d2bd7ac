//! What others ask of the operator itself: numbers for Prometheus, health for the kubelet.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Error, metrics::Metrics};

/// Serves `/metrics` until cancelled.
pub(crate) async fn metrics(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let text = move || async move {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(CONTENT_TYPE, kind)], metrics.text())
    };
    serve(
        "metrics",
        address,
        Router::new().route("/metrics", get(text)),
        cancel,
    )
    .await
}

/// Serves `/healthz` and `/readyz` until cancelled. An operator that waits for the lease is
/// healthy and ready: it stands by.
pub(crate) async fn probes(
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let readiness = move || async move {
        if ready.load(Ordering::Acquire) {
            (StatusCode::OK, "ok")
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "still reading what there is",
            )
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readiness));
    serve("health", address, router, cancel).await
}

async fn serve(
    what: &'static str,
    address: SocketAddr,
    router: Router,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let failed = |error| Error::Serve {
        what,
        address,
        error,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    axum::serve(listener, router)
        .with_graceful_shutdown(cancel.cancelled_owned())
        .await
        .map_err(failed)
}
