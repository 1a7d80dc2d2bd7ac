//! The pods of sessions, for those who look after them.

use std::sync::Arc;

use axum::{Extension, Json, Router, extract::Path, http::StatusCode, routing::get};
use sandlot_decide::session::SessionStatus;
use serde_json::{Value, json};

use super::{Answer, PAGE, Query, State, clamped};
use crate::{
    access::Caller,
    check::Fields,
    gateway::Gateway,
    ledger::{Session, SessionFilter},
    moment::naive,
    refusal::Refusal,
};

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/containers", get(list))
        .route("/containers/{id}", get(one))
        .route("/containers/{id}/logs", get(logs))
}

fn container(session: &Session) -> Value {
    let facts = &session.facts;
    json!({
        "container_id": facts.pod,
        "pod_name": facts.pod,
        "runtime_type": "kubernetes",
        "status": session.status,
        "session_id": session.id,
        "template_id": session.template,
        "node_name": facts.node,
        "resource_limit": { "cpu": facts.cpu, "memory": facts.memory, "disk": facts.disk },
        "created_at": naive(session.created),
        "last_activity_at": naive(session.active),
    })
}

async fn list(gateway: State, Extension(caller): Extension<Caller>, query: Query) -> Answer {
    let limit = clamped(&query, "limit", PAGE, 1, 200);
    let is_other = |name: &str, ours: &str| query.get(name).is_some_and(|wanted| wanted != ours);
    if is_other("runtime_type", "kubernetes") || is_other("status", "running") {
        return Ok(Json(json!({ "containers": [], "total": 0 })));
    }
    let filter = SessionFilter {
        status: Some(SessionStatus::Running.as_str().to_owned()),
        owner: caller.sees_only(),
        ..SessionFilter::default()
    };
    let (sessions, total) = gateway.ledger.sessions(&filter, limit, 0).await?;
    let containers: Vec<_> = sessions.iter().map(container).collect();
    Ok(Json(json!({ "containers": containers, "total": total })))
}

/// The session whose pod this is.
async fn find(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Session, Refusal> {
    let running = gateway.ledger.sessions_with(SessionStatus::Running).await?;
    running
        .into_iter()
        .find(|session| session.facts.pod == id && caller.may_use(&session.owner))
        .ok_or_else(|| Refusal::NotFound(format!("Container not found: {id}")))
}

async fn one(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let session = find(&gateway, &caller, &id).await?;
    Ok(Json(container(&session)))
}

/// What the pod's agent said.
async fn logs(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Query,
) -> Result<String, Refusal> {
    let mut fields = Fields::of_query(&query);
    let tail = fields.integer("tail", 1..=10_000).unwrap_or(100);
    let since = fields.integer("since", 1..=i64::from(i32::MAX));
    fields.finish()?;
    find(&gateway, &caller, &id).await?;
    let log = gateway.claims.log(&id, tail, since).await;
    log.map_err(|error| Refusal::Plain(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}
