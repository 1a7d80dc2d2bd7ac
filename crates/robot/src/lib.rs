//! The robot's side: what runs on a robot and does there what the cluster wants.
//!
//! A robot is often cut off, and is switched off without asking. So everything that counts is on
//! its disk before it takes effect: what it is to do ([`desired`], [`orders`]), how far each attempt at it is
//! ([`journal`]), what it has to report ([`outbox`]), and who it is ([`identity`]). Programs run
//! under the supervisor, which finds them again after this agent was killed.
//!
//! - [`agent`]: the loop that everything comes together in.
//! - [`link`]: the connection to the broker.
//! - [`task`]: the life of one attempt at one task; [`drivers`] say what is run for it, and
//!   [`cell`] is where isolated ones run.
//! - [`artifacts`], [`template`]: the files that a task finds in its folder.
//! - [`commands`], [`apps`]: what is done at once, and programs that are installed.
//! - [`logs`]: what tasks print, when somebody asks.
//! - [`device`], [`busy`]: what a robot says of itself; [`metrics`]: what it counts.

mod agent;
mod apps;
mod artifacts;
mod busy;
mod cell;
mod commands;
mod desired;
mod device;
mod drivers;
mod files;
mod group;
mod identity;
mod journal;
mod link;
mod logs;
mod metrics;
mod options;
mod orders;
mod outbox;
mod settings;
mod task;
mod template;

pub use agent::{RunError, run};
pub use cell::enter_if_called;
pub use options::{Connection, Options, WrongOption};
pub use settings::{Address, Settings, Tls, WrongAddress};
