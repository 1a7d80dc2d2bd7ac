//! A Kubernetes API in a library: storage, watches, patches, tables, admission and
//! garbage collection, over TLS or in process as a tower `Service`.
//!
//! It knows nothing of sandboxes.

pub mod access;
pub mod admission;
mod answer;
mod api;
mod aside;
mod bootstrap;
mod call;
mod cluster;
mod compress;
mod conversion;
mod discovery;
mod front;
mod health;
mod housekeeping;
mod intake;
mod kinds;
pub mod kubelet;
pub mod lookup;
mod metadata;
mod metrics;
mod negotiate;
mod object;
mod ownership;
mod record;
mod request;
mod schemas;
mod selection;
pub mod server;
mod services;
mod status;
mod strategy;
mod stream;
mod subresources;
mod tables;
mod usage;
mod verbs;
mod versions;
mod webhook;

pub use call::Cue;
pub use cluster::{Cluster, Config, StartError};
pub use request::Verb;
pub use status::{ApiError, Cause, Details, Reason};
