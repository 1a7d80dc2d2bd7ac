//! What lies below an object's path: its status, its scale, and what can be done with it
//! beyond reading and writing.

pub(crate) mod pods;
mod questions;
mod scale;

pub(crate) use questions::answer as question;

use crate::answer::Answer;
use crate::call::Call;
use crate::request::Verb;
use crate::status::ApiError;
use crate::stream;
use crate::verbs::{self, Part};

/// Does what a request below an object asks for.
pub(crate) async fn dispatch(call: &mut Call) -> Result<Answer, ApiError> {
    if !call.kind.has(&call.request.subresource) {
        return Err(ApiError::no_such_path());
    }
    match (call.request.subresource.as_str(), call.request.verb) {
        ("status", Verb::Get) => verbs::get(call).await,
        ("status", Verb::Update) => verbs::update(call, Part::Status).await,
        ("status", Verb::Patch) => verbs::patch(call, Part::Status).await,
        ("log", Verb::Get) => stream::logs(call).await,
        ("exec", Verb::Get | Verb::Create) => stream::remote(call, false).await,
        ("attach", Verb::Get | Verb::Create) => stream::remote(call, true).await,
        ("portforward", Verb::Get | Verb::Create) => stream::forward(call).await,
        ("token", Verb::Create) => questions::token(call),
        ("scale", _) => scale::scale(call).await,
        ("binding", _) => pods::bind(call).await,
        ("eviction", _) => pods::evict(call).await,
        ("finalize", Verb::Update) => verbs::update(call, Part::Sub("finalize")).await,
        ("ephemeralcontainers" | "resize", Verb::Get) => verbs::get(call).await,
        ("ephemeralcontainers", verb) => write(call, verb, "ephemeralcontainers").await,
        ("resize", verb) => write(call, verb, "resize").await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

async fn write(call: &mut Call, verb: Verb, part: &'static str) -> Result<Answer, ApiError> {
    match verb {
        Verb::Update => verbs::update(call, Part::Sub(part)).await,
        Verb::Patch => verbs::patch(call, Part::Sub(part)).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}
