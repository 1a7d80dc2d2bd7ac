//! Brokers: who may say and hear what, the embedded one, and Mosquitto's configuration.
//!
//! The rules are one pure function ([`Right`]); the embedded broker asks it, and Mosquitto is told
//! the same in its own words.
//!
//! The embedded broker is written here, over the client crate's codec. The brokers that can be had
//! as crates either know logins but no rules for topics and cannot put a client out, or bring an
//! HTTP server, a plugin loader and a cluster with them; what robots need of a broker on one
//! machine is a page of state.

mod connection;
mod embedded;
mod hearers;
pub mod mosquitto;
pub(crate) mod refused;
mod rights;
mod session;
mod state;

pub use embedded::{Broker, BrokerError, Door, Listen};
pub use rights::{BOOTSTRAP, BRIDGE, Keyring, Login, Right, Robots, hash};
