//! Output as it is made: server-sent events, or a WebSocket for who prefers one.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{
        Path,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures::{SinkExt, Stream, StreamExt, stream::SplitStream};
use serde_json::json;

use super::{State, executions};
use crate::{
    access::Caller,
    follow::{Told, follow},
    gateway::Gateway,
    ledger::Execution,
    refusal::Refusal,
};

/// How long a client may take to take a message.
const SLOW: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/executions/sessions/{id}/execute-stream", post(run))
        .route("/executions/{id}/stream", get(watch))
        .route("/executions/{id}/ws", get(socket))
}

/// Takes code on and tells its output.
async fn run(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let execution = executions::take_on(&gateway, &caller, &id, &body).await?;
    Ok(events(gateway.0, execution))
}

/// Tells the output of an execution from its beginning, also after its end.
async fn watch(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let execution = executions::find(&gateway, &caller, &id).await?;
    Ok(events(gateway.0, execution))
}

fn events(gateway: Arc<Gateway>, execution: Execution) -> Response {
    let id = execution.id.clone();
    let first = Event::default()
        .event("execution")
        .data(json!({ "execution_id": id }).to_string());
    let rest = follow(gateway, execution).map(|told: Told| {
        Event::default()
            .event(told.kind)
            .data(told.body.to_string())
    });
    let all = futures::stream::iter([first]).chain(rest);
    Sse::new(all.map(Ok::<_, Infallible>))
        .keep_alive(KeepAlive::default())
        .into_response()
}

async fn socket(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let execution = executions::find(&gateway, &caller, &id).await?;
    let told = follow(gateway.0, execution);
    Ok(upgrade.on_upgrade(move |socket| tell(socket, told)))
}

/// Tells everything, then closes. A client that takes nothing, or goes, is left.
async fn tell(socket: WebSocket, told: impl Stream<Item = Told>) {
    let (mut to, mut from) = socket.split();
    let mut told = std::pin::pin!(told);
    loop {
        let next = tokio::select! {
            next = told.next() => next,
            said = from.next() => match said {
                Some(Ok(message)) if !matches!(message, Message::Close(_)) => continue,
                _ => return,
            },
        };
        let Some(next) = next else { break };
        let message = json!({ "type": next.kind, "data": next.body }).to_string();
        let sent = tokio::time::timeout(SLOW, to.send(Message::text(message))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
    // A client that is gone already needs no goodbye.
    let _ = tokio::time::timeout(SLOW, to.close()).await;
    // What it sends to a closed connection would take back what it has not read yet.
    let _ = tokio::time::timeout(SLOW, left(from)).await;
}

/// Waits until the client has left.
async fn left(mut from: SplitStream<WebSocket>) {
    while let Some(Ok(message)) = from.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
    }
}
