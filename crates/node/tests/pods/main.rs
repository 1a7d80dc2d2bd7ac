//! Pods as a user sees them: through the API, on a real node.

mod fields;
mod harness;
mod lifecycle;
mod trouble;

use harness::Cluster;
