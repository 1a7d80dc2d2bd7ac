//! What executors report by calling back. Sandlot's own agents are asked instead; these are for
//! executors that somebody brings along, and they are believed about their own session alone.

use std::sync::Arc;

use axum::{Extension, Json, Router, body::Bytes, extract::Path, http::StatusCode, routing::post};
use sandlot_decide::session::ExecutionStatus;
use serde_json::{Value, json};

use super::{Answer, State};
use crate::{
    callbacks::Reporter,
    check::Fields,
    gateway::Gateway,
    ledger::{Execution, File, Metrics, Outcome},
    moment::now,
    refusal::Refusal,
    workspaces::is_path,
};

/// The longest output that is taken, in characters.
const LONGEST: usize = 1 << 20;
/// The most artifacts that are taken note of.
const MOST_FILES: usize = 1000;
/// How a container may end.
const REASONS: [&str; 5] = ["normal", "sigterm", "sigkill", "oom_killed", "error"];

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/internal/containers/ready", post(ready))
        .route("/internal/containers/exited", post(exited))
        .route("/internal/executions/{id}/heartbeat", post(heartbeat))
        .route("/internal/executions/{id}/result", post(result))
}

fn message(text: &str) -> Json<Value> {
    Json(json!({ "message": text }))
}

/// A container is up. Its session runs as soon as its agent answers, and one that is over stays
/// over, whatever arrives late.
async fn ready(gateway: State, Extension(reporter): Extension<Reporter>, body: Bytes) -> Answer {
    let mut fields = Fields::of_body(&body)?;
    fields.require("container_id");
    let container = fields.text("container_id", 1..=253).unwrap_or_default();
    fields.text("pod_name", 0..=253);
    fields.integer("executor_port", 1..=65_535);
    fields.finish()?;
    let session = gateway.ledger.session(&reporter.session).await?;
    let is_its_own = |pod: &str| pod.is_empty() || pod == container;
    match session.filter(|session| is_its_own(&session.facts.pod)) {
        Some(_) => Ok(message("Container ready acknowledged")),
        None => Err(Refusal::NotFound(format!(
            "Session {} has no container {container}",
            reporter.session
        ))),
    }
}

/// A container is gone: whoever looks after sessions looks at once.
async fn exited(gateway: State, Extension(reporter): Extension<Reporter>, body: Bytes) -> Answer {
    if !body.is_empty() {
        let mut fields = Fields::of_body(&body)?;
        fields.text("container_id", 0..=253);
        fields.one_of("exit_reason", &REASONS);
        fields.finish()?;
    }
    tracing::info!(
        session = reporter.session,
        "its container says that it ends"
    );
    gateway.claims.look();
    Ok(message("Container exited acknowledged"))
}

/// An execution goes on, and with it its session is used.
async fn heartbeat(
    gateway: State,
    Extension(reporter): Extension<Reporter>,
    Path(_): Path<String>,
) -> Answer {
    gateway.ledger.touch_session(&reporter.session).await?;
    Ok(message("Heartbeat acknowledged"))
}

/// How an execution ended. What was said first holds.
async fn result(
    gateway: State,
    Extension(reporter): Extension<Reporter>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let found = gateway.ledger.execution(&id).await?;
    // Others' executions are not even there.
    let mut execution = found
        .filter(|execution| execution.session == reporter.session)
        .ok_or_else(|| Refusal::NotFound(format!("Execution not found: {id}")))?;
    if execution.status.is_over() {
        return Ok((StatusCode::OK, message("Result already reported")));
    }
    report(&mut execution, &body)?;
    gateway.conclude(execution).await?;
    Ok((StatusCode::CREATED, message("Result reported")))
}

/// Takes over what the body says.
fn report(execution: &mut Execution, body: &[u8]) -> Result<(), Refusal> {
    let mut fields = Fields::of_body(body)?;
    fields.require("status");
    let status = fields.text("status", 0..=32).unwrap_or_default();
    let ended = now();
    let took = fields.number("execution_time", 0.0..=86_400.0);
    let outcome = Outcome {
        stdout: kept(fields.text("stdout", 0..=LONGEST)),
        stderr: kept(fields.text("stderr", 0..=LONGEST)),
        exit_code: fields
            .integer("exit_code", i64::from(i32::MIN)..=i64::from(i32::MAX))
            .and_then(|code| i32::try_from(code).ok()),
        result: fields.value("return_value").map(Value::to_string),
        metrics: metrics(fields.object("metrics"), took),
        artifacts: artifacts(&mut fields),
        started: execution.outcome.started.or(Some(ended)),
        completed: Some(ended),
        retries: execution.outcome.retries,
        ..Outcome::default()
    };
    fields.finish()?;
    execution.status = match status.as_str() {
        "success" | "completed" => ExecutionStatus::Completed,
        "failed" => ExecutionStatus::Failed,
        "timeout" => ExecutionStatus::Timeout,
        "crashed" => ExecutionStatus::Crashed,
        other => {
            return Err(Refusal::bad(format!(
                "{other:?} is no end of an execution: report success, failed, timeout or crashed"
            )));
        }
    };
    execution.outcome = outcome;
    if execution.status != ExecutionStatus::Completed {
        let last = execution
            .outcome
            .stderr
            .lines()
            .rfind(|line| !line.trim().is_empty());
        execution.outcome.error = Some(last.unwrap_or(&status).to_owned());
    }
    Ok(())
}

/// Text as any database can keep it.
fn kept(text: Option<String>) -> String {
    text.unwrap_or_default().replace('\0', "\u{fffd}")
}

/// What it used, as far as that is said.
fn metrics(said: Option<Value>, took: Option<f64>) -> Option<Metrics> {
    if said.is_none() && took.is_none() {
        return None;
    }
    let said = said.unwrap_or_default();
    let whole = |name: &str| said[name].as_f64().unwrap_or(0.0).max(0.0) as u64;
    Some(Metrics {
        duration_ms: took.map_or(whole("duration_ms") as i64, |took| (took * 1000.0) as i64),
        cpu_time_ms: whole("cpu_time_ms") as i64,
        peak_memory_mb: said["peak_memory_mb"].as_f64().unwrap_or(0.0),
        io_read_bytes: whole("io_read_bytes"),
        io_write_bytes: whole("io_write_bytes"),
    })
}

/// The paths that are said to be new.
fn artifacts(fields: &mut Fields) -> Vec<File> {
    let Some(Value::Array(said)) = fields.value("artifacts").cloned() else {
        return Vec::new();
    };
    let paths = said.iter().filter_map(Value::as_str);
    let files = paths.filter(|path| is_path(path)).map(|path| File {
        path: path.to_owned(),
        ..File::default()
    });
    files.take(MOST_FILES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Request;

    fn execution() -> Execution {
        Execution {
            id: "exec_1".to_owned(),
            session: "s".to_owned(),
            status: ExecutionStatus::Running,
            gateway: String::new(),
            created: now(),
            request: Request::default(),
            outcome: Outcome::default(),
        }
    }

    #[test]
    fn a_report_is_taken_as_it_is_said() {
        let mut one = execution();
        let body =
            br#"{"status": "success", "stdout": "a\u0000", "exit_code": 0, "execution_time": 1.5,
            "return_value": 0, "metrics": {"cpu_time_ms": 7}, "artifacts": ["a.txt", "../b"]}"#;
        report(&mut one, body).unwrap();
        assert_eq!(one.status, ExecutionStatus::Completed);
        let outcome = &one.outcome;
        assert_eq!(outcome.stdout, "a\u{fffd}");
        assert_eq!(outcome.result.as_deref(), Some("0"));
        let metrics = outcome.metrics.unwrap();
        assert_eq!((metrics.duration_ms, metrics.cpu_time_ms), (1500, 7));
        assert_eq!(outcome.artifacts.len(), 1, "a path that leads out is none");
    }

    #[test]
    fn an_unknown_end_is_refused() {
        let mut one = execution();
        let refused = report(&mut one, br#"{"status": "odd"}"#).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert_eq!(one.status, ExecutionStatus::Running);
    }
}
