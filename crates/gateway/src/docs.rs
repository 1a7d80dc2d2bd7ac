//! The API's own description, and pages to read it.

use std::sync::Arc;

use axum::{
    Json, Router,
    http::header,
    response::{Html, IntoResponse},
    routing::get,
};
use serde_json::{Value, json};

use crate::gateway::Gateway;

/// The description, in OpenAPI 3.1.
pub(crate) const OPENAPI: &str = include_str!("docs/openapi.json");
/// A page that shows it, with nothing from elsewhere.
const PAGE: &str = include_str!("docs/page.html");

/// The routes of the documentation.
pub(crate) fn routes() -> Router<Arc<Gateway>> {
    let openapi =
        || async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response() };
    Router::new()
        .route("/", get(|| async { Json(about()) }))
        .route("/openapi.json", get(openapi))
        .route("/docs", get(|| async { Html(PAGE) }))
        .route("/redoc", get(|| async { Html(PAGE) }))
}

fn about() -> Value {
    json!({
        "name": "Sandbox Control Plane",
        "version": "2.1.0",
        "status": "operational",
        "features": [
            "session_management", "code_execution", "template_management", "file_operations", "state_sync",
        ],
        "documentation": { "swagger": "/docs", "redoc": "/redoc", "openapi": "/openapi.json" },
    })
}
