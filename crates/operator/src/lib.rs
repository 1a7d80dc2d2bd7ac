//! The controllers of Sandlot: watch, decide, write.
//!
//! One loop ([`run`]) owns an in-memory picture of all pools, pods, sandboxes and tasks. Watches
//! feed it; thin controllers, one file each, look at what has changed, ask `sandlot-decide` what
//! to do, and put writes on a tray; the loop sends them off and takes the answers in. It holds a
//! `kube::Client` and never knows whether a cluster or a library is at the other end.

pub mod admission;
mod agents;
mod crds;
mod dispatch;
mod error;
mod events;
mod expiry;
mod http;
mod index;
mod key;
mod leader;
mod metrics;
mod opensandbox;
mod pods;
mod robots;
mod rounds;
mod run;
mod sandbox;
mod saving;
mod settings;
mod strays;
mod task;
mod warm_pool;
mod world;

pub use crds::install_crds;
pub use error::Error;
pub use leader::Election;
pub use run::run;
pub use saving::{CommitJobs, Save, SaveError, SavedImage, Saver, Snapshots};
pub use settings::{Agent, Ahead, BadSetting, Delivery, Identity, OnCue, Proof, Settings, Settled};
