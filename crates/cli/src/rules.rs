//! The operator's rules for its own kinds, as a step of the embedded API's admission.

use futures::future::BoxFuture;
use sandlot_api::{arl::names, robot};
use sandlot_cluster::{
    ApiError, Cause,
    admission::{self, Admission, AdmissionRequest, Denied, Warnings},
};
use sandlot_operator::admission as operator;
use serde_json::Value;

/// What a cluster's operator says through a webhook, said in process.
pub(crate) struct Rules;

impl Admission for Rules {
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        let about = &request.resource;
        let ours = match about.group.as_str() {
            names::GROUP => operator::concerns(&about.kind),
            robot::names::GROUP => operator::robots::concerns(&about.kind),
            _ => false,
        };
        ours && about.subresource.is_empty()
    }

    fn mutate<'a>(
        &'a self,
        request: &'a mut AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        if let Some(object) = &mut request.object {
            operator::fill_in(&request.resource.kind, object);
        }
        Box::pin(async { Ok(Warnings::new()) })
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async move { check(request) })
    }
}

fn check(request: &AdmissionRequest) -> Result<Warnings, Denied> {
    let operation = match request.operation {
        admission::Operation::Create => operator::Operation::Create,
        admission::Operation::Update => operator::Operation::Update,
        admission::Operation::Delete => operator::Operation::Delete,
        admission::Operation::Connect => return Ok(Warnings::new()),
    };
    let old = request.old_object.as_deref();
    let object = request.object.as_ref().or(old).unwrap_or(&Value::Null);
    operator::check(&request.resource.kind, operation, object, old)
        .map_err(|denied| refusal(request, denied))
}

fn refusal(request: &AdmissionRequest, denied: operator::Denied) -> Denied {
    if request.operation == admission::Operation::Delete {
        return request.forbidden(&denied.to_string());
    }
    let causes = denied
        .faults
        .into_iter()
        .map(|fault| Cause::new("FieldValueInvalid", fault.field, fault.message))
        .collect();
    ApiError::invalid(
        &request.resource.group,
        &request.resource.kind,
        &request.name,
        causes,
    )
}
