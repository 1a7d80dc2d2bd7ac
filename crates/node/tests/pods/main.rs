//! Pods as a user sees them: through the API, on a real node.

mod claims;
mod endings;
mod escapes;
mod fields;
mod harness;
mod leaks;
mod lifecycle;
mod network;
mod probes;
mod restarts;
mod rootless;
mod scheduling;
mod snapshots;
mod trouble;
mod volumes;

use harness::Cluster;
