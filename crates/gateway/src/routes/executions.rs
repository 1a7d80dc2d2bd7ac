//! Executions: submitted, waited for, looked up, stopped.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use sandlot_decide::session::{ExecutionStatus, SessionStatus};
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::Code;

use super::{Answer, PAGE, Query, State, clamped, session_of};
use crate::{
    access::Caller,
    check::Fields,
    gateway::Gateway,
    ledger::{Execution, LedgerError, Outcome, Request, Session},
    moment::now,
    refusal::Refusal,
    runs::SubmitError,
    wire,
    workspaces::is_path,
};

/// The longest code, in characters.
const LONGEST_CODE: usize = 102_400;
/// How long code may run that does not say, in seconds.
const USUAL_TIMEOUT: i64 = 30;
/// How long stopping an execution may take.
const CANCEL: Duration = Duration::from_secs(10);
/// How soon an execution that its agent does not know yet is stopped again.
const ABOUT_TO: Duration = Duration::from_millis(20);
/// A session that was used within this time is not noted as used again.
const FRESH: SignedDuration = SignedDuration::from_secs(10);

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/executions/sessions/{id}/execute", post(submit))
        .route("/executions/sessions/{id}/execute-sync", post(run))
        .route("/executions/sessions/{id}/executions", get(list))
        .route("/executions/{id}/status", get(one))
        .route("/executions/{id}/result", get(one))
        .route("/executions/{id}/cancel", post(cancel))
}

fn read(body: &[u8], longest: i64) -> Result<Request, Refusal> {
    let mut fields = Fields::of_body(body)?;
    fields.require("code");
    fields.require("language");
    let request = Request {
        code: fields.text("code", 1..=LONGEST_CODE).unwrap_or_default(),
        language: fields
            .one_of("language", &["python", "javascript", "shell"])
            .unwrap_or_default(),
        timeout: fields
            .integer("timeout", 1..=longest)
            .unwrap_or(USUAL_TIMEOUT.min(longest)),
        event: fields.object("event"),
        working_directory: working_directory(&mut fields).unwrap_or_default(),
        max_retries: fields
            .integer("max_retries", 0..=3)
            .and_then(|times| u32::try_from(times).ok())
            .unwrap_or(0),
        metadata: fields.object("metadata"),
    };
    fields.finish()?;
    Ok(request)
}

/// A folder below the workspace, whatever system the client thinks in.
fn working_directory(fields: &mut Fields) -> Option<String> {
    let name = "working_directory";
    let written = fields.text(name, 0..=1024)?;
    let plain = written.trim_end_matches('/');
    let plain = plain.strip_prefix("./").unwrap_or(plain);
    let is_drive = plain.as_bytes().get(1) == Some(&b':');
    match plain {
        "" | "." if !written.starts_with('/') => None,
        plain if !is_drive && is_path(plain) => Some(plain.to_owned()),
        _ => {
            let message = "Value error, give a folder inside the workspace, such as \"src\"";
            fields.fault(name, "value_error", message);
            None
        }
    }
}

fn new_id() -> String {
    let second = Timestamp::now().strftime("%Y%m%d%H%M%S");
    format!("exec_{second}_{:08x}", rand::random::<u32>())
}

/// A session in which code can run.
pub(super) async fn running(
    gateway: &Gateway,
    caller: &Caller,
    id: &str,
) -> Result<Session, Refusal> {
    let session = session_of(gateway, caller, id).await?;
    match session.status {
        SessionStatus::Running => Ok(session),
        SessionStatus::Creating => Err(Refusal::Conflict(format!(
            "Session {id} has no container yet: wait until it is running"
        ))),
        ended => Err(Refusal::Conflict(format!(
            "Session {id} is {}{}: make another",
            ended.as_str(),
            match session.facts.reason.as_str() {
                "" => String::new(),
                why => format!(" ({why})"),
            }
        ))),
    }
}

/// Takes code on. Once this is done it runs, whoever waits for it.
pub(super) async fn take_on(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    session: &str,
    body: &[u8],
) -> Result<Execution, Refusal> {
    let request = read(body, gateway.settings.timeouts.1)?;
    let session = running(gateway, caller, session).await?;
    if now().duration_since(session.active) > FRESH {
        gateway.ledger.touch_session(&session.id).await?;
    }
    let execution = Execution {
        id: new_id(),
        session: session.id.clone(),
        status: ExecutionStatus::Pending,
        gateway: gateway.me.clone(),
        created: now(),
        request,
        outcome: Outcome::default(),
    };
    match gateway.submit(&execution, &session).await {
        Ok(()) => Ok(execution),
        Err(SubmitError::Ledger(LedgerError::Taken)) => {
            Err(Refusal::Broken("an id was thought up twice".to_owned()))
        }
        Err(SubmitError::Ledger(error)) => Err(error.into()),
        Err(busy @ SubmitError::Busy) => Err(Refusal::Plain(
            StatusCode::SERVICE_UNAVAILABLE,
            busy.to_string(),
        )),
    }
}

async fn submit(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let execution = take_on(&gateway, &caller, &id, &body).await?;
    Ok((StatusCode::CREATED, Json(wire::submitted(&execution))))
}

/// Takes code on and answers when it is over.
async fn run(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Query,
    body: Bytes,
) -> Answer {
    let mut fields = Fields::of_query(&query);
    // Nothing is polled here, but who sends it is told when it makes no sense.
    fields.number("poll_interval", 0.1..=10.0);
    let patience = fields.integer("sync_timeout", 10..=3600).unwrap_or(300);
    fields.finish()?;
    let execution = take_on(&gateway, &caller, &id, &body).await?;
    let patience_left = Duration::from_secs(patience.unsigned_abs());
    let ended = gateway.ended(&execution.id, patience_left).await;
    let ended = match ended {
        Some(ended) => ended,
        // It was over before anybody could wait for it, or is not over yet.
        None => Arc::new(find(&gateway, &caller, &execution.id).await?),
    };
    if !ended.status.is_over() {
        return Err(Refusal::Plain(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "Execution {} of session {id} is not over after {patience} seconds: it goes on, \
                 ask for its result later",
                execution.id
            ),
        ));
    }
    Ok(Json(wire::execution(&ended)))
}

/// An execution of a session that the caller may use.
pub(super) async fn find(
    gateway: &Gateway,
    caller: &Caller,
    id: &str,
) -> Result<Execution, Refusal> {
    let missing = || Refusal::NotFound(format!("Execution not found: {id}"));
    let execution = gateway.ledger.execution(id).await?.ok_or_else(missing)?;
    match session_of(gateway, caller, &execution.session).await {
        Ok(_) => Ok(execution),
        Err(Refusal::NotFound(_)) => Err(missing()),
        Err(other) => Err(other),
    }
}

async fn one(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let execution = find(&gateway, &caller, &id).await?;
    Ok(Json(wire::execution(&execution)))
}

async fn list(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    query: Query,
) -> Answer {
    session_of(&gateway, &caller, &id).await?;
    let limit = clamped(&query, "limit", PAGE, 1, 200);
    let offset = clamped(&query, "offset", 0, 0, i64::MAX);
    let (executions, total) = gateway.ledger.executions(&id, limit, offset).await?;
    let items: Vec<_> = executions.iter().map(wire::execution).collect();
    Ok(Json(
        json!({ "items": items, "total": total, "limit": limit, "offset": offset }),
    ))
}

/// Ends what runs, with everything it started. Answers when it is over.
async fn cancel(
    gateway: State,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let deadline = Instant::now() + CANCEL;
    loop {
        let execution = find(&gateway, &caller, &id).await?;
        if execution.status.is_over() {
            return Ok(Json(wire::execution(&execution)));
        }
        let session = running(&gateway, &caller, &execution.session).await?;
        let unavailable =
            |message: String| Refusal::Plain(StatusCode::SERVICE_UNAVAILABLE, message);
        let executor = gateway
            .executors
            .of(&gateway.claims, &session.facts.claim, CANCEL)
            .await
            .map_err(|error| unavailable(format!("session {}: {error}", session.id)))?;
        match executor.stop(&execution.key()).await {
            // Another gateway may be the one to note it.
            Ok(()) => drop(gateway.over(&id, CANCEL).await?),
            // It is about to start, or to be noted as over.
            Err(status) if status.code() == Code::NotFound && Instant::now() < deadline => {
                tokio::time::sleep(ABOUT_TO).await;
            }
            Err(status) => {
                return Err(unavailable(format!(
                    "execution {id} could not be stopped: {}; try again in a moment",
                    status.message()
                )));
            }
        }
        if Instant::now() >= deadline {
            return Err(unavailable(format!(
                "execution {id} was told to stop and has not ended yet: ask for its result later"
            )));
        }
    }
}
