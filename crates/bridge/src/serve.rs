//! What the bridge serves over HTTP: metrics, whether it works, and what tasks print.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use sandlot_api::robot::wire::{LogChunk, LogStream};
use serde::Deserialize;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    logs::{self, Ask},
    metrics::Metrics,
};

/// What the pages need.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) ask: mpsc::Sender<Ask>,
}

/// Serves until cancelled.
pub(crate) async fn serve(
    listener: &std::net::TcpListener,
    pages: Pages,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener.try_clone()?)?;
    let router = Router::new()
        .route(
            "/metrics",
            get(async |State(pages): State<Pages>| pages.metrics.text()),
        )
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/logs/{task}", get(read))
        .with_state(pages);
    // Those who follow a task would keep it from ending: they are cut off.
    tokio::select! {
        served = axum::serve(listener, router).into_future() => served,
        () = cancel.cancelled() => Ok(()),
    }
}

async fn ready(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    match pages.ready.load(Ordering::Acquire) {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "reading"),
    }
}

/// What of a task's output is wanted.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wanted {
    stream: LogStream,
    tail: Option<u64>,
    follow: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            stream: LogStream::Stdout,
            tail: None,
            follow: false,
        }
    }
}

async fn read(
    State(pages): State<Pages>,
    Path(task): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let (to, mut from) = logs::line();
    let ask = Ask {
        task,
        stream: wanted.stream,
        tail_bytes: wanted.tail,
        follow: wanted.follow,
        to,
    };
    if pages.ask.send(ask).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the bridge is stopping").into_response();
    }
    // Whether there is anything to read is known with the first piece.
    let first = match from.recv().await {
        Some(LogChunk {
            error: Some(error), ..
        }) => {
            return (StatusCode::NOT_FOUND, error + "\n").into_response();
        }
        Some(chunk) => chunk,
        None => {
            return (StatusCode::GATEWAY_TIMEOUT, "the robot does not answer\n").into_response();
        }
    };
    let rest = futures::stream::unfold(from, async |mut from| {
        from.recv().await.map(|chunk| (chunk, from))
    });
    let pieces = futures::stream::once(async { first }).chain(rest);
    let bytes = pieces.map(|chunk| {
        let piece = STANDARD.decode(chunk.data).unwrap_or_default();
        Ok::<Bytes, Infallible>(piece.into())
    });
    Response::new(Body::from_stream(bytes))
}
