//! Pods as a user sees them: through the API, on a real node.

mod bombs;
mod claims;
mod endings;
mod ephemeral;
mod escapes;
mod fields;
mod forgery;
mod harness;
mod leaks;
mod lifecycle;
mod network;
mod ordinary;
mod probes;
mod restarts;
mod rootless;
mod runtimes;
mod scheduling;
mod services;
mod snapshots;
mod trouble;
mod volumes;
mod walls;

use harness::Cluster;
