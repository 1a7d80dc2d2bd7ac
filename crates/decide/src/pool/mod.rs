//! How many pods to make, which to remove, which to replace and when.
//!
//! One engine for every kind of pool. A pool says how many idle pods it wants ([`Sizing`]) and how
//! careful it is ([`Care`]); the engine looks at the pods and returns a [`Plan`]. Pods in use are
//! never in a plan.

mod facts;
mod plan;
mod sizing;

pub use facts::{Failures, Health, Pod, Trouble, TroubleKind, Use};
pub use plan::{Care, Counts, Plan, Pool, Removal, Why, plan};
pub use sizing::{Share, Sizing};
