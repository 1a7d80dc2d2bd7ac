//! The embedded node: pods of the API become real, isolated Linux containers.
//!
//! It watches pods through a [`kube::Client`], binds those nobody has bound, and runs each
//! in a sandbox: a small process, its *keeper*, that holds the pod's namespaces and is the
//! parent of its containers. What a pod should do next is decided by pure functions
//! ([`pod`]); a task for each pod ([`worker`]) carries the decisions out.
//!
//! # Why not an OCI runtime by default
//!
//! The keeper starts containers itself. An OCI runtime (runc, crun, youki's libcontainer)
//! is a program or a chain of forks for each start, and needs a second, resident process
//! for each container to hold its streams and learn its exit code. Here one keeper of
//! about a megabyte does that for a whole pod, forked ahead of time from a zygote, so that
//! a start is one fork away and a node that is killed finds everything again: keepers go
//! on by themselves, write logs and note exit codes in files.
//!
//! # Who is who in a pod
//!
//! A keeper is root of the machine (or, without root, of the zygote's user namespace). Its
//! containers live in a user namespace of their own, one range of users for each pod, and
//! in mount namespaces that belong to the keeper's users: a container's root may not even
//! unmount what it sees. Keepers are closed to inspection (`PR_SET_DUMPABLE`).
#![warn(missing_docs)]

mod cgroup;
mod changes;
mod claims;
mod config;
pub mod doctor;
mod events;
mod images;
mod intake;
mod isolation;
mod keeper;
mod kubelet;
mod log_files;
mod network;
mod node;
mod pod;
mod probe;
mod rates;
mod registration;
mod removal;
mod runtime;
mod sandbox;
mod schedule;
mod snapshot;
mod usage;
mod visits;
mod worker;

pub use config::NodeConfig;
pub use images::MissingImages;

/// Asking a running node about its images, as `sandlot image` does.
pub mod images_door {
    pub use crate::images::Removed;
    pub use crate::images::door::{Ask, Client, ImageInfo, Tell};
}

/// Giving images to a registry, for whoever has their parts elsewhere than on a node of ours.
pub mod registry {
    pub use crate::images::{Place, PlaceError};
}
pub use keeper::enter_if_called;
pub use network::PacketRules;
pub use node::{Node, NodeError, StopMode};
pub use runtime::{Runtime, RuntimeError};
pub use snapshot::{Snapshot, SnapshotError};
