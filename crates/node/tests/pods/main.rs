//! Pods as a user sees them: through the API, on a real node.

mod escapes;
mod fields;
mod harness;
mod leaks;
mod lifecycle;
mod network;
mod rootless;
mod scheduling;
mod trouble;

use harness::Cluster;
