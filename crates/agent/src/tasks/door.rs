//! The task executor's HTTP routes.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::de::DeserializeOwned;

use super::{Tasks, wire::Task};

/// The largest list of tasks that is read.
const LARGEST_BODY: usize = 4 << 20;

/// The routes over these tasks.
pub(crate) fn router(tasks: Arc<Tasks>) -> Router {
    Router::new()
        .route("/setTasks", post(set))
        .route("/getTasks", get(list))
        .route("/tasks", post(create))
        .route("/tasks/{name}", get(one).delete(delete))
        .route(
            "/health",
            get(|| async { Json(serde_json::json!({ "status": "healthy" })) }),
        )
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(tasks)
}

/// A refusal as the executor's clients know it.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.0.canonical_reason().unwrap_or("Error");
        (
            self.0,
            Json(serde_json::json!({ "code": code, "message": self.1 })),
        )
            .into_response()
    }
}

fn failed(message: String) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// Reads JSON whatever its content type says.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

async fn set(State(tasks): State<Arc<Tasks>>, body: Bytes) -> Result<Json<Vec<Task>>, Refusal> {
    let wanted: Vec<Task> = read(&body)?;
    tasks
        .set(wanted)
        .await
        .map_err(|complaints| failed(complaints.join("; ")))?;
    Ok(Json(tasks.list().await))
}

async fn list(State(tasks): State<Arc<Tasks>>) -> Json<Vec<Task>> {
    Json(tasks.list().await)
}

async fn create(
    State(tasks): State<Arc<Tasks>>,
    body: Bytes,
) -> Result<(StatusCode, Json<Task>), Refusal> {
    let task: Task = read(&body)?;
    if task.name.is_empty() {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "the task has no name".to_owned(),
        ));
    }
    let created = tasks.create(task).await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(created)))
}

async fn one(
    State(tasks): State<Arc<Tasks>>,
    Path(name): Path<String>,
) -> Result<Json<Task>, Refusal> {
    let found = tasks.get(&name).await;
    found
        .map(Json)
        .ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("there is no task {name}")))
}

async fn delete(
    State(tasks): State<Arc<Tasks>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    tasks.delete(&name).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}
