//! The bridge between the cluster and the robots: MQTT on one side, Kubernetes on the other.
//!
//! One loop ([`run`]) owns what is known of both. Robots' messages are checked and read at the
//! edge (`inbox`), the API is seen through watches (`sights`). What comes of them is: where a
//! robot stands, written only when that changes; what a robot is to do, said again whenever that
//! changes; what has become of it, written down before it is acknowledged. Beats are remembered,
//! and written nowhere.
//!
//! Of several bridges one listens at a time: a Lease says which. They share one name and one
//! session at the broker, so that what is said between two of them waits there, and an old one
//! that does not know yet that it no longer leads is put out by the broker.

mod announce;
pub mod broker;
mod clock;
mod command;
mod desired;
mod hear;
mod inbox;
mod index;
mod link;
mod logs;
mod metrics;
mod people;
mod registration;
mod reports;
mod robot;
mod run;
mod serve;
mod settings;
mod sights;
pub mod simulated;
mod task;
mod tell;
mod work;
mod writes;

pub use link::TlsError;
pub use run::{Error, run};
pub use settings::{Approval, Remote, Settings, Tls};
