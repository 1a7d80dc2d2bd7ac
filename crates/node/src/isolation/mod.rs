//! What a container is allowed: capabilities and system calls.

mod allowance;
mod capabilities;
mod oci;
mod seccomp;

pub(crate) use allowance::{leaves_out, refuses};
pub(crate) use capabilities::{ALL, mask, names, writes_packets};
pub(crate) use oci::oci_profile;
pub(crate) use seccomp::{default_profile, one_user};
