//! What a container is allowed: capabilities and system calls.

mod capabilities;
mod seccomp;

pub(crate) use capabilities::{ALL, mask};
pub(crate) use seccomp::default_profile;
