//! Pods as a user sees them: through the API, on a real node.

mod harness;
mod lifecycle;

use harness::Cluster;
