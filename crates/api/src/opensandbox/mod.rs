//! `sandbox.opensandbox.io/v1alpha1`: pools of pods, batches of sandboxes taken from them, and
//! snapshots of what a sandbox wrote.
//!
//! The wire is the one that existing clients and servers of this group speak: names, annotations
//! and the words of phases and conditions are theirs.

// Each printer column names its type and path, which clippy takes for repetition.
#![allow(clippy::duplicated_attributes)]

mod batch_sandbox;
mod condition;
pub mod names;
mod pool;
mod sandbox_snapshot;
mod task;

pub use batch_sandbox::{
    BatchPhase, BatchSandbox, BatchSandboxSpec, BatchSandboxStatus, TaskResourcePolicy,
};
pub use condition::{Condition, Holds};
pub use pool::{
    CapacitySpec, Pool, PoolSpec, PoolStatus, RecycleStrategy, RecycleType, ScaleStrategy,
    UpdateStrategy,
};
pub use sandbox_snapshot::{
    SandboxSnapshot, SandboxSnapshotSpec, SandboxSnapshotStatus, SavedContainer, SnapshotPhase,
};
pub use task::{
    EnvVar, ExecutorTask, ProcessStatus, ProcessTask, Running, TaskSpec, TaskTemplate, Terminated,
    Waiting,
};

#[cfg(test)]
mod tests;
