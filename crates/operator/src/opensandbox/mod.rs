//! `sandbox.opensandbox.io`: pools, batches of sandboxes, their tasks and snapshots.
//!
//! Watches feed an index, thin controllers look at what has changed and put writes on a tray, a
//! loop of the make that all families have sends them off and takes the answers in. Pools are
//! stocked by the engine that stocks those of `arl.infra.io`.

mod answers;
mod batch;
mod build;
mod condition;
mod index;
mod pool;
mod profile;
mod recycle;
mod restore;
mod sights;
mod snapshot;
mod tasks;
mod work;
mod world;
mod writes;

pub(crate) use world::World;
