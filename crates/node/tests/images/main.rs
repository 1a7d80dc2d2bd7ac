//! Images as a user meets them: real registries, pods through the API, archives and saved
//! containers.

#[path = "../pods/harness.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod harness;

mod archives;
mod hostile;
mod logins;
mod making;
mod pulls;
mod registry;

use harness::Cluster;
