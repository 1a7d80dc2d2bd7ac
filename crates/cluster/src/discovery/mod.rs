//! What is served, told to clients that ask.

mod legacy;

use axum::body::Body;
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::answer::response;
use crate::api::Api;
use crate::request::Target;
use crate::status::ApiError;

/// Answers about the API itself, and on paths that are no objects.
pub(crate) fn answer(
    api: &Api,
    _parts: &Parts,
    target: &Target,
) -> Result<Response<Body>, ApiError> {
    let kinds = api.registry.now();
    let value = match target {
        Target::CoreVersions => legacy::core_versions(),
        Target::Groups => legacy::groups(&kinds),
        Target::Group(group) => legacy::group(&kinds, group)?,
        Target::Resources(group, version) => legacy::resources(&kinds, group, version)?,
        Target::Path(path) => match path.trim_end_matches('/') {
            "/version" => version(),
            "/openid/v1/jwks" => api.tokens.jwks(),
            "/.well-known/openid-configuration" => api.tokens.openid_configuration(),
            "/livez" | "/healthz" | "/readyz" => {
                return Ok(response(StatusCode::OK, "text/plain; charset=utf-8", "ok"));
            }
            _ => return Err(ApiError::no_such_path()),
        },
        Target::Resource(_) => return Err(ApiError::no_such_path()),
    };
    Ok(response(
        StatusCode::OK,
        "application/json",
        value.to_string(),
    ))
}

/// The Kubernetes version whose API this is.
fn version() -> Value {
    json!({
        "major": "1", "minor": "33", "gitVersion": concat!("v1.33.0+sandlot-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}
