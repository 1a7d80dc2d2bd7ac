//! The answers to writes that are refused, in Kubernetes' words.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};

use super::{AdmissionRequest, Denied};

/// An answer with a code, a reason and a message.
pub(crate) fn status(code: i32, reason: &str, message: impl Into<String>) -> Denied {
    Box::new(Status {
        status: Some("Failure".to_owned()),
        code: Some(code),
        reason: Some(reason.to_owned()),
        message: Some(message.into()),
        ..Status::default()
    })
}

/// The object may not be written so.
pub(crate) fn forbidden(request: &AdmissionRequest, why: impl AsRef<str>) -> Denied {
    let object = object_of(request);
    let mut denied = status(
        403,
        "Forbidden",
        format!("{object} is forbidden: {}", why.as_ref()),
    );
    denied.details = Some(details(request));
    denied
}

/// Something the object needs does not exist.
pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Denied {
    let qualified = qualified(group, resource);
    let mut denied = status(404, "NotFound", format!("{qualified} {name:?} not found"));
    denied.details = Some(StatusDetails {
        name: Some(name.to_owned()),
        group: (!group.is_empty()).then(|| group.to_owned()),
        kind: Some(resource.to_owned()),
        ..StatusDetails::default()
    });
    denied
}

fn details(request: &AdmissionRequest) -> StatusDetails {
    let resource = &request.resource;
    StatusDetails {
        name: (!request.name.is_empty()).then(|| request.name.clone()),
        group: (!resource.group.is_empty()).then(|| resource.group.clone()),
        kind: Some(resource.resource.clone()),
        ..StatusDetails::default()
    }
}

/// `pods "web"`, `roles.rbac.authorization.k8s.io "reader"`.
fn object_of(request: &AdmissionRequest) -> String {
    let qualified = qualified(&request.resource.group, &request.resource.resource);
    match request.name.as_str() {
        "" => qualified,
        name => format!("{qualified} {name:?}"),
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}
