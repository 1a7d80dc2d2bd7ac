//! What went wrong, in the words and codes of the Kubernetes API.
//!
//! Clients branch on `reason` and `code` and people read `message`, so all three are
//! made here and nowhere else.

mod details;
mod reason;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::{Value, json};

pub use details::{Cause, Details};
pub use reason::Reason;

use details::in_one_line;

/// Why a request failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP code.
    pub code: u16,
    /// What a client branches on.
    pub reason: Reason,
    /// What a person reads.
    pub message: String,
    /// What it was about.
    pub details: Option<Box<Details>>,
}

impl ApiError {
    /// An error with no details.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, details: Details) -> ApiError {
        self.details = Some(Box::new(details));
        self
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, Reason::BadRequest, message)
    }

    /// Nobody knows who is asking.
    pub fn unauthorized() -> ApiError {
        ApiError::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// There is no such path.
    pub fn no_such_path() -> ApiError {
        ApiError::new(
            404,
            Reason::NotFound,
            "the server could not find the requested resource",
        )
        .about(Details::default())
    }

    /// There is no such object. `resource` is `pods` or `warmpools.example.com`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> ApiError {
        ApiError::new(
            404,
            Reason::NotFound,
            format!("{} {name:?} not found", qualified(resource, group)),
        )
        .about(Details {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            ..Details::default()
        })
    }

    /// An object of that name exists.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> ApiError {
        ApiError::new(
            409,
            Reason::AlreadyExists,
            format!("{} {name:?} already exists", qualified(resource, group)),
        )
        .about(Details {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            ..Details::default()
        })
    }

    /// The write cannot be done on the object as it is now.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> ApiError {
        let what = qualified(resource, group);
        ApiError::new(
            409,
            Reason::Conflict,
            format!("Operation cannot be fulfilled on {what} {name:?}: {why}"),
        )
        .about(Details {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            ..Details::default()
        })
    }

    /// Somebody else changed the object first.
    pub fn modified(group: &str, resource: &str, name: &str) -> ApiError {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        ApiError::conflict(group, resource, name, why)
    }

    /// Server-side apply found fields that belong to others.
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> ApiError {
        ApiError::new(409, Reason::Conflict, message).about(Details {
            causes,
            ..Details::default()
        })
    }

    /// The object breaks the rules of its kind.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> ApiError {
        let lines: Vec<String> = causes.iter().map(in_one_line).collect();
        let what = match lines.as_slice() {
            [] => "<nil>".to_owned(),
            [line] => line.clone(),
            lines => format!("[{}]", lines.join(", ")),
        };
        ApiError::new(
            422,
            Reason::Invalid,
            format!("{} {name:?} is invalid: {what}", qualified(kind, group)),
        )
        .about(Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        })
    }

    /// Whoever asks may not do this.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> ApiError {
        let what = qualified(resource, group);
        let message = match name {
            "" => format!("{what} is forbidden: {why}"),
            name => format!("{what} {name:?} is forbidden: {why}"),
        };
        ApiError::new(403, Reason::Forbidden, message).about(Details {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            ..Details::default()
        })
    }

    /// The state that was asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(410, Reason::Expired, message)
    }

    /// A revision was asked for that this server has not seen yet.
    pub fn too_large_resource_version(asked: u64, current: u64) -> ApiError {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let cause = Cause::new("ResourceVersionTooLarge", "", "Too large resource version");
        ApiError::new(504, Reason::Timeout, message).about(Details {
            causes: vec![cause],
            retry_after: 1,
            ..Details::default()
        })
    }

    /// The path exists, not this way of using it.
    pub fn method_not_allowed() -> ApiError {
        ApiError::new(
            405,
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
        .about(Details::default())
    }

    /// None of the answers that the client accepts can be given.
    pub fn not_acceptable(accepted: &[&str]) -> ApiError {
        let list = accepted.join(", ");
        ApiError::new(
            406,
            Reason::NotAcceptable,
            format!("only the following media types are accepted: {list}"),
        )
    }

    /// The body is in a format that is not understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> ApiError {
        let list = accepted.join(", ");
        ApiError::new(
            415,
            Reason::UnsupportedMediaType,
            format!(
                "the body of the request was in an unknown format - accepted media types include: {list}"
            ),
        )
    }

    /// The body is bigger than anyone needs.
    pub fn too_large(limit: usize) -> ApiError {
        let message = format!("Request entity too large: limit is {limit}");
        ApiError::new(413, Reason::RequestEntityTooLarge, message)
    }

    /// The server failed.
    pub fn internal(message: impl std::fmt::Display) -> ApiError {
        let message = message.to_string();
        let cause = Cause {
            message: message.clone(),
            ..Cause::default()
        };
        ApiError::new(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {message}"),
        )
        .about(Details {
            causes: vec![cause],
            ..Details::default()
        })
    }

    /// The server is about to go, or not there yet.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(503, Reason::ServiceUnavailable, message)
    }

    /// Too much at once; try again after some seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> ApiError {
        ApiError::new(429, Reason::TooManyRequests, message).about(Details {
            retry_after,
            ..Details::default()
        })
    }

    /// Says how a list can go on all the same.
    pub(crate) fn with_continue(mut self, token: String) -> ApiError {
        self.details.get_or_insert_default().continue_token = token;
        self
    }

    /// Adds one more cause, with no field.
    pub fn because(mut self, reason: &str, message: &str) -> ApiError {
        let details = self.details.get_or_insert_default();
        details.causes.push(Cause::new(reason, "", message));
        self
    }

    /// The error as a `Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if self.reason != Reason::Unknown {
            status["reason"] = self.reason.as_str().into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
            if !details.continue_token.is_empty() {
                status["metadata"]["continue"] = details.continue_token.as_str().into();
            }
        }
        status
    }
}

/// The answer to a write that leaves no object behind.
pub(crate) fn success(group: &str, resource: &str, name: &str, uid: &str) -> Value {
    let details = Details {
        name: name.into(),
        group: group.into(),
        kind: resource.into(),
        uid: uid.into(),
        ..Details::default()
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details.to_value()})
}

/// `pods`, or `warmpools.example.com` for a resource of a named group.
pub(crate) fn qualified(resource: &str, group: &str) -> String {
    match group {
        "" => resource.to_owned(),
        group => format!("{resource}.{group}"),
    }
}

/// An answer that somebody else made up, such as an admission webhook.
impl From<Status> for ApiError {
    fn from(status: Status) -> ApiError {
        let reason = status.reason.unwrap_or_default();
        let reason = Reason::ALL
            .into_iter()
            .find(|one| one.as_str() == reason)
            .unwrap_or(Reason::Unknown);
        let code = status
            .code
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| (400..600).contains(code));
        let details = status.details.map(|details| {
            let causes = details
                .causes
                .unwrap_or_default()
                .into_iter()
                .map(|cause| Cause {
                    reason: cause.reason.unwrap_or_default(),
                    message: cause.message.unwrap_or_default(),
                    field: cause.field.unwrap_or_default(),
                });
            Box::new(Details {
                name: details.name.unwrap_or_default(),
                group: details.group.unwrap_or_default(),
                kind: details.kind.unwrap_or_default(),
                uid: details.uid.unwrap_or_default(),
                causes: causes.collect(),
                retry_after: details
                    .retry_after_seconds
                    .and_then(|s| u32::try_from(s).ok())
                    .unwrap_or(0),
                continue_token: String::new(),
            })
        });
        let message = status.message.unwrap_or_default();
        ApiError {
            code: code.unwrap_or(500),
            reason,
            message,
            details,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_object_lists_every_cause_in_one_sentence() {
        let causes = vec![
            Cause::required("spec.a", ""),
            Cause::forbidden("spec.b", "may not change"),
        ];
        let error = ApiError::invalid("x.io", "Pool", "p", causes);
        assert_eq!(
            error.message,
            "Pool.x.io \"p\" is invalid: [spec.a: Required value, spec.b: Forbidden: may not change]"
        );
        let status = error.to_value();
        assert_eq!(status["code"], 422);
        assert_eq!(status["details"]["causes"][1]["field"], "spec.b");
    }

    #[test]
    fn an_unknown_reason_is_not_said() {
        let status = ApiError::new(500, Reason::Unknown, "odd").to_value();
        assert!(status.get("reason").is_none());
    }
}
