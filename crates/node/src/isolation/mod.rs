//! What a container is allowed: capabilities and system calls.

mod allowance;
mod capabilities;
mod seccomp;

pub(crate) use allowance::refuses;
pub(crate) use capabilities::{ALL, mask, writes_packets};
pub(crate) use seccomp::default_profile;
