//! Health that tells the truth.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sandlot_decide::session::SessionStatus;
use serde_json::{Value, json};

use super::{Answer, State};
use crate::{access::Caller, gateway::Gateway, refusal::Refusal};

/// The format of the numbers.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/health", get(alive))
        .route("/health/ready", get(ready))
        .route("/health/detailed", get(detailed))
        .route("/health/sync", post(sync))
}

fn head(gateway: &Gateway, status: &str) -> Value {
    json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": gateway.started.elapsed().as_secs_f64(),
    })
}

/// That it serves at all; what it depends on is asked for in detail.
async fn alive(gateway: State) -> Json<Value> {
    Json(head(&gateway, "healthy"))
}

/// Whether it can do its work now. This is asked without a token: why not is not told.
async fn ready(gateway: State) -> (StatusCode, Json<Value>) {
    let found = gateway.pulse().await;
    let word = |part: &Result<(), String>| if part.is_ok() { "healthy" } else { "unhealthy" };
    let (status, name) = match found.is_well() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
    };
    let body = json!({ "status": name, "dependencies": {
        "database": word(&found.database),
        "storage": word(&found.storage),
        "runtime_nodes": word(&found.nodes),
    } });
    (status, Json(body))
}

/// How each part is, and why it is not well.
async fn detailed(gateway: State) -> (StatusCode, Json<Value>) {
    let found = gateway.pulse().await;
    let (status, name) = match found.is_well() {
        true => (StatusCode::OK, "healthy"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    let word = |part: Result<(), String>| {
        part.map_or_else(|why| format!("unhealthy: {why}"), |()| "healthy".to_owned())
    };
    let mut body = head(&gateway, name);
    body["dependencies"] = json!({
        "database": word(found.database),
        "storage": word(found.storage),
        "runtime_nodes": word(found.nodes),
    });
    body["executions_running"] = json!(gateway.runs.count());
    (status, Json(body))
}

/// Numbers for Prometheus. A database that is away takes those with it that it knows.
pub(super) async fn metrics(
    gateway: State,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    caller.must_be_admin()?;
    let mut active = Vec::new();
    for status in [SessionStatus::Creating, SessionStatus::Running] {
        if let Ok(count) = gateway.ledger.count_sessions(status).await {
            active.push((status, count));
        }
    }
    let text = gateway.metrics.text(&active, gateway.runs.count());
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

/// One sweep now.
async fn sync(gateway: State, Extension(caller): Extension<Caller>) -> Answer {
    caller.must_be_admin()?;
    let swept = gateway.sweep().await;
    Ok(Json(json!({
        "status": "success", "message": "State sync completed", "result": swept,
    })))
}
