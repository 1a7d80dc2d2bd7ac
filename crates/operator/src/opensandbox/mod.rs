//! `sandbox.opensandbox.io`: pools, batches of sandboxes, their tasks and snapshots.
//!
//! A loop of its own beside that of `arl.infra.io`, of the same make: watches feed an index,
//! thin controllers look at what has changed and put writes on a tray, the loop sends them off
//! and takes the answers in. Both stock their pools by the one engine.

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

pub(crate) use work::work;
pub(crate) use world::World;
