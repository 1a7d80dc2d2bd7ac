//! A Kubernetes API in a library: storage, watches, patches, tables, admission and
//! garbage collection, over TLS or in process as a tower `Service`.
//!
//! It knows nothing of sandboxes.

pub mod access;
pub mod admission;
pub mod kubelet;
pub mod lookup;
