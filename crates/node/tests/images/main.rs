//! Images as a user meets them: real registries, pods through the API, archives and saved
//! containers.

#[path = "../pods/harness.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod harness;

#[path = "../pods/ordinary.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod ordinary;

mod archives;
mod hostile;
mod logins;
mod making;
mod pulls;
mod registry;
mod rootless;

use harness::Cluster;
