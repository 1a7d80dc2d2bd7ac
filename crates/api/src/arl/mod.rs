//! `arl.infra.io/v1alpha1`: pools of warm pods, sandboxes claimed from them, tasks run in them.
//!
//! Where published documents and published code of this API spell a field differently, both
//! spellings are read and both are written; the documents win where the meaning differs.

// Each printer column names its type and path, which clippy takes for repetition.
#![allow(clippy::duplicated_attributes)]

pub mod names;
mod sandbox;
mod task;
// The derive that carries the CEL rule repeats the type where nobody can reach it.
#[expect(unreachable_pub)]
mod warm_pool;

pub use crate::PodTemplate;
pub use sandbox::{Sandbox, SandboxPhase, SandboxSpec, SandboxStatus};
pub use task::{Step, StepState, StepStatus, StepType, Task, TaskSpec, TaskState, TaskStatus};
pub use warm_pool::{PoolPhase, Recycle, WarmPool, WarmPoolSpec, WarmPoolStatus};

#[cfg(test)]
mod tests;
