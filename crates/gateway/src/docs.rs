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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The description and its pages do not describe themselves.
    const PAGES: [&str; 3] = ["/openapi.json", "/docs", "/redoc"];

    /// Each path and method that a file serves, as it is written there.
    fn served(source: &str) -> Vec<(String, Vec<&'static str>)> {
        let routes = source.split(".route(").skip(1).map(|route| {
            let mut words = route.splitn(3, '"').skip(1);
            let path = words.next().unwrap().replace("{*", "{");
            let calls = words.next().unwrap().lines().next().unwrap();
            let methods = ["get", "post", "put", "delete", "patch"];
            let is_served = |method: &&str| calls.contains(&format!("{method}("));
            (path, methods.into_iter().filter(is_served).collect())
        });
        routes.collect()
    }

    #[test]
    fn everything_served_is_described() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes");
        let mut found = served(
            include_str!("docs.rs")
                .split("#[cfg(test)]")
                .next()
                .unwrap(),
        );
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let source = fs::read_to_string(&path).unwrap();
            let outer = path.ends_with("mod.rs");
            found.extend(
                served(&source)
                    .into_iter()
                    .map(|(path, methods)| match outer {
                        true => (path, methods),
                        false => (format!("/api/v1{path}"), methods),
                    }),
            );
        }
        assert!(found.len() > 25, "{found:?}");
        for (path, methods) in found {
            if PAGES.contains(&path.as_str()) {
                continue;
            }
            assert!(!methods.is_empty(), "{path}");
            for method in methods {
                assert!(
                    !described["paths"][&path][method].is_null(),
                    "{method} {path}"
                );
            }
        }
    }
}
