//! Health that tells the truth.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{Answer, State};
use crate::{access::Caller, gateway::Gateway};

/// How long each part may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/health", get(alive))
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

/// Asks each part.
async fn detailed(gateway: State) -> (StatusCode, Json<Value>) {
    async fn ask<E: std::fmt::Display>(
        asked: impl Future<Output = Result<(), E>>,
    ) -> Result<(), String> {
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }
    let (database, storage, nodes) = tokio::join!(
        ask(gateway.ledger.answers()),
        ask(gateway.files.answers()),
        ask(gateway.claims.answers()),
    );
    let all_well = database.is_ok() && storage.is_ok() && nodes.is_ok();
    let word = |part: Result<(), String>| {
        part.map_or_else(|why| format!("unhealthy: {why}"), |()| "healthy".to_owned())
    };
    let (status, name) = match all_well {
        true => (StatusCode::OK, "healthy"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    let mut body = head(&gateway, name);
    body["dependencies"] = json!({
        "database": word(database), "storage": word(storage), "runtime_nodes": word(nodes),
    });
    body["executions_running"] = json!(gateway.runs.count());
    (status, Json(body))
}

/// One sweep now.
async fn sync(gateway: State, Extension(caller): Extension<Caller>) -> Answer {
    caller.must_be_admin()?;
    let swept = gateway.sweep().await;
    Ok(Json(json!({
        "status": "success", "message": "State sync completed", "result": swept,
    })))
}
