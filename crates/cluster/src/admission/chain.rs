//! The order in which a write is looked at.

use super::{AdmissionRequest, Denied, Warnings};
use crate::kubelet::BoxFuture;

/// Something in process that looks at writes.
///
/// Both methods let everything through unless they are implemented.
pub trait Admission: Send + Sync + 'static {
    /// Whether it wants to see this write at all.
    fn concerns(&self, request: &AdmissionRequest) -> bool;

    /// Whether it wants to see or change more of this write's object than its metadata without the
    /// managers of its fields. Where nobody does, the rest is not even read.
    fn reads(&self, request: &AdmissionRequest) -> bool {
        self.concerns(request)
    }

    /// Changes the object before it is validated. May be called again when a later step
    /// changed the object, so it must come to the same result on its own work.
    fn mutate<'a>(
        &'a self,
        _request: &'a mut AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async { Ok(Warnings::new()) })
    }

    /// Accepts or refuses the object in its final form.
    fn validate<'a>(
        &'a self,
        _request: &'a AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async { Ok(Warnings::new()) })
    }
}

/// Every step of admission: those in process first, then the webhooks.
#[derive(Default)]
pub struct Chain {
    steps: Vec<Box<dyn Admission>>,
}

impl Chain {
    /// An empty chain, which lets every write through.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step after those already there.
    pub fn with(mut self, step: impl Admission) -> Self {
        self.steps.push(Box::new(step));
        self
    }
}

/// A chain is a step itself: all of its own, one after the other.
impl Admission for Chain {
    fn concerns(&self, request: &AdmissionRequest) -> bool {
        self.steps.iter().any(|step| step.concerns(request))
    }

    fn reads(&self, request: &AdmissionRequest) -> bool {
        let mut concerned = self.steps.iter().filter(|step| step.concerns(request));
        concerned.any(|step| step.reads(request))
    }

    fn mutate<'a>(
        &'a self,
        request: &'a mut AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async {
            let mut warnings = Warnings::new();
            for step in &self.steps {
                if step.concerns(request) {
                    warnings.extend(step.mutate(request).await?);
                }
            }
            Ok(warnings)
        })
    }

    fn validate<'a>(
        &'a self,
        request: &'a AdmissionRequest,
    ) -> BoxFuture<'a, Result<Warnings, Denied>> {
        Box::pin(async {
            let mut warnings = Warnings::new();
            for step in self.steps.iter().filter(|step| step.concerns(request)) {
                warnings.extend(step.validate(request).await?);
            }
            Ok(warnings)
        })
    }
}
