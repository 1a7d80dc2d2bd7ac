//! What a pod should do next and what its status says: decisions, no input or output.
//!
//! [`Facts`] holds what is wanted and what was seen; [`next`] says what to do now and
//! when to look again; [`status`] puts the facts into Kubernetes' words.

mod backoff;
mod before;
mod conditions;
mod env;
mod facts;
pub(crate) mod names;
mod next;
mod resources;
mod spec;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use env::{Sources, expand, pod_field, resource_field, variables};
pub(crate) use facts::{End, Facts, IMAGE_FAILED, Phase, Stopping, Unhealthy};
pub(crate) use next::{Act, next};
pub(crate) use resources::{bytes, limits, limits_of_all, milli, requested};
pub(crate) use spec::{
    ContainerKind, containers, ephemeral, field_path, find, grace, shares_processes,
};
pub(crate) use status::status;
