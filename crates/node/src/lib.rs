//! The embedded node.

mod cgroup;
mod images;
mod isolation;
mod keeper;
mod network;
mod sandbox;

pub use keeper::enter_if_called;
