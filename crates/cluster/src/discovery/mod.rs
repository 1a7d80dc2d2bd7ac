//! What is served, told to clients that ask.

mod aggregated;
mod documents;
mod legacy;

mod subresource;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::answer::response;
use crate::api::Api;
use crate::health;
use crate::kinds::Kinds;
use crate::negotiate::ranges;
use crate::request::Target;
use crate::status::ApiError;

pub(crate) use documents::Documents;

/// Answers about the API itself, and on paths that are no objects.
pub(crate) fn answer(
    api: &Api,
    parts: &Parts,
    target: &Target,
) -> Result<Response<Body>, ApiError> {
    if !matches!(parts.method.as_str(), "GET" | "HEAD") {
        return Err(ApiError::method_not_allowed());
    }
    let kinds = api.registry.now();
    let value = match target {
        Target::CoreVersions | Target::Groups => return Ok(root(&kinds, &parts.headers, target)),
        Target::Group(group) => legacy::group(&kinds, group)?,
        Target::Resources(group, version) => legacy::resources(&kinds, group, version)?,
        Target::Path(path) => match path.trim_end_matches('/') {
            "" => paths(&kinds),
            "/version" => version(),
            "/openid/v1/jwks" => api.tokens.jwks(),
            "/.well-known/openid-configuration" => api.tokens.openid_configuration(),
            path => {
                if let Some(answer) = api.documents.answer(&kinds, &parts.headers, path) {
                    return answer;
                }
                return health::answer(api, path, parts.uri.query().unwrap_or_default())
                    .ok_or_else(ApiError::no_such_path);
            }
        },
        Target::Resource(_) => return Err(ApiError::no_such_path()),
    };
    Ok(response(
        StatusCode::OK,
        "application/json",
        value.to_string(),
    ))
}

/// `/api` and `/apis`: all in one document for those who know it, the old way for others.
fn root(kinds: &Kinds, headers: &HeaderMap, target: &Target) -> Response<Body> {
    let core = *target == Target::CoreVersions;
    let wanted = ranges(headers)
        .into_iter()
        .find_map(|range| match range.name.as_str() {
            "application/json" | "*/*" | "application/*" => match range.parameter("as") {
                "" => Some("legacy"),
                "APIGroupDiscoveryList" => match range.parameter("v") {
                    "v2" => Some("v2"),
                    "v2beta1" => Some("v2beta1"),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        });
    let (kind, document) = match wanted {
        Some("v2") => (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            aggregated::document(kinds, "v2", core),
        ),
        Some("v2beta1") => (
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
            aggregated::document(kinds, "v2beta1", core),
        ),
        _ if core => ("application/json", legacy::core_versions()),
        _ => ("application/json", legacy::groups(kinds)),
    };
    tagged(headers, kind, document.to_string())
}

/// A document with a tag by which a client sees whether it changed.
pub(crate) fn tagged(
    headers: &HeaderMap,
    kind: &'static str,
    document: impl Into<Bytes>,
) -> Response<Body> {
    let document = document.into();
    let digest = Sha256::digest(&document);
    let tag: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => response(StatusCode::NOT_MODIFIED, kind, Body::empty()),
        false => response(StatusCode::OK, kind, document),
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// `/`: where one can go from here.
fn paths(kinds: &Kinds) -> Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
    ]
    .map(str::to_owned)
    .into();
    for (group, versions) in kinds.groups().iter().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            versions
                .iter()
                .map(|version| format!("/apis/{group}/{version}")),
        );
    }
    let others = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    json!({"paths": paths})
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
