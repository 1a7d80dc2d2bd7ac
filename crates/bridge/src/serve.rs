//! What the bridge serves over HTTP: metrics, whether it works, and what tasks print.

use std::{
    io,
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
) -> io::Result<()> {
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
    let pieces = futures::stream::unfold(Some((Some(first), from)), async |open| {
        let (first, mut from) = open?;
        let chunk = match first {
            Some(first) => first,
            // Whoever reads must not take what broke off for the end.
            None => from.recv().await.unwrap_or_else(broken_off),
        };
        if let Some(error) = chunk.error {
            return Some((Err(io::Error::other(error)), None));
        }
        let piece = Bytes::from(STANDARD.decode(chunk.data).unwrap_or_default());
        let rest = (!chunk.end).then_some((None, from));
        Some((Ok(piece), rest))
    });
    Response::new(Body::from_stream(pieces))
}

/// In the place of what a reader should have been told, who was too slow or whose robot went.
fn broken_off() -> LogChunk {
    LogChunk {
        end: true,
        error: Some("it broke off: ask again".to_owned()),
        ..LogChunk::default()
    }
}
