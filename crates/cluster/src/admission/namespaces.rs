//! Nothing new in namespaces that are not there, or no longer for long.

use std::sync::Arc;

use super::{Admission, AdmissionRequest, Denied, Operation, Warnings};
use crate::kubelet::BoxFuture;
use crate::lookup::Lookup;
use crate::status::ApiError;

/// Namespaces without which a cluster is none.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Keeps objects and namespaces in step.
pub(crate) struct Namespaces {
    lookup: Arc<dyn Lookup>,
}

impl Namespaces {
    /// Reads namespaces from here.
    pub(crate) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Namespaces { lookup }
    }

    fn check(&self, request: &AdmissionRequest) -> Result<(), Denied> {
        let namespace = request.namespace.as_str();
        if request.is_about("", "namespaces") {
            let immortal = IMMORTAL.contains(&request.name.as_str());
            return match immortal && request.operation == Operation::Delete {
                true => Err(request.forbidden("this namespace may not be deleted")),
                false => Ok(()),
            };
        }
        if request.operation != Operation::Create {
            return Ok(());
        }
        let leaving = self.lookup.is_leaving("namespaces", "", namespace);
        if !leaving.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))? {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = format!("namespace {namespace} is being terminated");
        Err(request
            .forbidden(&why)
            .because("NamespaceTerminating", &cause))
    }
}

impl Admission for Namespaces {
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        request.resource.namespaced || request.is_about("", "namespaces")
    }

    /// It is about where an object is.
    fn reads(&self, _: &AdmissionRequest) -> bool {
        false
    }

    fn mutate<'a>(
        &'a self,
        request: &'a mut AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async { self.check(request).map(|()| Warnings::new()) })
    }
}
