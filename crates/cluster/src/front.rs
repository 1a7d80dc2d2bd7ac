//! The front of the server: an HTTP request comes in with the user who makes it, and an
//! HTTP response goes out. Whatever goes wrong on the way is answered with a Status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request as HttpRequest, Response};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::OnUpgrade;

use crate::access::{Attributes, User};
use crate::answer::{Answer, failed};
use crate::api::Api;
use crate::call::{Ahead, Call, Cue, Near};
use crate::compress::{compressed, reads_gzip};
use crate::discovery;
use crate::metrics::Labels;
use crate::negotiate::Accept;
use crate::request::{self, Request, Target, Verb};
use crate::status::ApiError;
use crate::subresources;
use crate::usage;
use crate::verbs::{self, Part};

/// The biggest body that is read.
pub(crate) const LARGEST_BODY: usize = 3 * 1024 * 1024;
/// How long a client may take to send a body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// The longest path with query.
const LONGEST_URI: usize = 256 * 1024;

/// Answers a request of a user.
pub(crate) async fn handle(
    api: Arc<Api>,
    user: User,
    request: HttpRequest<Body>,
) -> Response<Body> {
    let running = api.metrics.begin();
    let began = Instant::now();
    let mut aside = Aside::default();
    let gzip = reads_gzip(request.headers());
    let mut response = match answer(&api, user, request, &mut aside).await {
        Ok(response) => response,
        Err(error) => failed(&error),
    };
    for warning in aside.warnings {
        response
            .headers_mut()
            .append(http::header::WARNING, warning_header(&warning));
    }
    let code = response.status().as_u16();
    api.metrics.answered(aside.labels, code, began.elapsed());
    drop(running);
    match gzip {
        true => compressed(response).await,
        false => response,
    }
}

/// What is learnt about a request beside its answer.
#[derive(Default)]
struct Aside {
    warnings: Vec<String>,
    labels: Labels,
}

async fn answer(
    api: &Arc<Api>,
    user: User,
    request: HttpRequest<Body>,
    aside: &mut Aside,
) -> Result<Response<Body>, ApiError> {
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let ahead = parts.extensions.remove::<Ahead>().is_some();
    let near = parts.extensions.remove::<Near>().is_some();
    let cue = parts.extensions.remove::<Cue>();
    if parts
        .uri
        .path_and_query()
        .is_some_and(|all| all.as_str().len() > LONGEST_URI)
    {
        return Err(ApiError::new(
            414,
            crate::status::Reason::BadRequest,
            "the URI of the request is too long",
        ));
    }
    let target = request::parse(&parts.method, &parts.uri)?;
    authorize(api, &user, &target, &parts.method)?;
    let asked = match target {
        Target::Resource(asked) => *asked,
        other => return discovery::answer(api, &parts, &other),
    };
    let kinds = api.registry.now();
    let kind = kinds
        .find(&asked.group, &asked.version, &asked.resource)
        .ok_or_else(ApiError::no_such_path)?;
    if !kind.namespaced && asked.namespace.is_some() && asked.resource != "namespaces" {
        return Err(ApiError::no_such_path());
    }
    aside.labels = Labels {
        verb: asked.verb.as_str(),
        group: asked.group.clone(),
        version: asked.version.clone(),
        resource: asked.resource.clone(),
        subresource: match kind.has(&asked.subresource) {
            true => asked.subresource.clone(),
            false => String::new(),
        },
    };
    let deprecated = kind
        .custom()
        .and_then(|custom| custom.version.deprecation.clone());
    aside.warnings.extend(deprecated);
    let accept = Accept::of(&parts.headers)?;
    let body = match asked.verb {
        Verb::Get | Verb::List | Verb::Watch => Bytes::new(),
        _ => read(body).await?,
    };
    let mut call = Call {
        api: Arc::clone(api),
        kinds,
        kind,
        request: asked,
        user,
        headers: parts.headers,
        body,
        accept,
        authorship: Default::default(),
        near,
        ahead,
        cue,
        upgrade,
        warnings: Vec::new(),
    };
    let result = dispatch(&mut call).await;
    aside.warnings.append(&mut call.warnings);
    result?.into_response(&call)
}

async fn dispatch(call: &mut Call) -> Result<Answer, ApiError> {
    if !call.request.subresource.is_empty() {
        return subresources::dispatch(call).await;
    }
    if call.kind.is_measured() {
        return usage::answer(call).await;
    }
    if call.kind.is("", "Binding") {
        return subresources::pods::bind_by_name(call).await;
    }
    if !call.kind.is_stored() {
        return subresources::question(call);
    }
    match call.request.verb {
        Verb::Get => verbs::get(call).await,
        Verb::List => verbs::list(call).await,
        Verb::Watch => verbs::watch(call).await,
        Verb::Create => verbs::create(call).await,
        Verb::Update => verbs::update(call, Part::Main).await,
        Verb::Patch => verbs::patch(call, Part::Main).await,
        Verb::Delete => verbs::delete(call).await,
        Verb::DeleteCollection => verbs::delete_collection(call).await,
    }
}

/// Refuses what the user may not do.
fn authorize(
    api: &Api,
    user: &User,
    target: &Target,
    method: &http::Method,
) -> Result<(), ApiError> {
    let attributes = match target {
        Target::Resource(request) => attributes(request),
        Target::CoreVersions => Attributes::path(&method.as_str().to_lowercase(), "/api"),
        Target::Groups => Attributes::path(&method.as_str().to_lowercase(), "/apis"),
        Target::Group(group) => {
            Attributes::path(&method.as_str().to_lowercase(), &format!("/apis/{group}"))
        }
        Target::Resources(group, version) => {
            let path = if group.is_empty() {
                format!("/api/{version}")
            } else {
                format!("/apis/{group}/{version}")
            };
            Attributes::path(&method.as_str().to_lowercase(), &path)
        }
        Target::Path(path) => Attributes::path(&method.as_str().to_lowercase(), path),
    };
    api.authorizer.check(user, &attributes)
}

fn attributes(request: &Request) -> Attributes {
    Attributes::resource(
        request.verb.as_str(),
        &request.group,
        &request.version,
        &request.resource,
    )
    .subresource(&request.subresource)
    .in_namespace(request.namespace())
    .named(match (request.verb, request.name()) {
        (Verb::List | Verb::Watch, "") => selected_name(&request.options.field_selector),
        (_, name) => name,
    })
}

/// The one name that a field selector allows: who may only read an object of that name may list
/// and watch with such a selector.
fn selected_name(selector: &str) -> &str {
    // What is escaped may only look like a term of its own.
    if selector.contains('\\') {
        return "";
    }
    let names = selector.split(',').filter_map(|term| {
        let value = term.trim().strip_prefix("metadata.name=")?;
        Some(value.strip_prefix('=').unwrap_or(value))
    });
    let plain = |name: &&str| {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':');
        !name.is_empty() && name.bytes().all(is_plain)
    };
    names.into_iter().find(plain).unwrap_or_default()
}

/// Reads a body, but neither for ever nor without end.
async fn read(body: Body) -> Result<Bytes, ApiError> {
    let limited = Limited::new(body, LARGEST_BODY);
    match tokio::time::timeout(BODY_PATIENCE, limited.collect()).await {
        Err(_) => Err(ApiError::new(
            408,
            crate::status::Reason::Timeout,
            format!(
                "the body of the request did not arrive within {} seconds",
                BODY_PATIENCE.as_secs()
            ),
        )),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::too_large(LARGEST_BODY))
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!(
            "the body of the request could not be read: {error}"
        ))),
    }
}

/// A warning as RFC 7234 has it; what cannot stand in a header is left out.
fn warning_header(text: &str) -> HeaderValue {
    let quoted: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(1024)
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes())
        .unwrap_or_else(|_| HeaderValue::from_static("299 - \"warning\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_names_one_object_or_none() {
        for (selector, name) in [
            ("metadata.name=a", "a"),
            ("metadata.namespace=x,metadata.name==a.b", "a.b"),
            ("metadata.name!=a", ""),
            ("metadata.name=", ""),
            ("spec.x=b\\,metadata.name=a", ""),
            ("metadata.name=a/b", ""),
            ("", ""),
        ] {
            assert_eq!(selected_name(selector), name, "{selector}");
        }
    }
}
