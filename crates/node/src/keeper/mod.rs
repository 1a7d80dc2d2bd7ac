//! What runs beside a pod's containers: the zygote and its keepers.
//!
//! ```text
//! sandlot up ── zygote ─┬─ keeper of pod a ─┬─ container 1
//!                       │                   └─ container 2
//!                       └─ keeper of pod b ─── container 1
//! ```
//!
//! All of this is single-threaded code that forks. It is compiled into whatever program
//! embeds the node, and that program enters it through [`enter_if_called`] before it
//! starts any thread.

mod answer;
mod children;
mod container;
mod holder;
mod launch;
mod log;
pub(crate) mod message;
mod namespaces;
mod oci;
pub(crate) mod packet;
mod process;
mod serve;
mod socket;
mod syscalls;
mod zygote;

pub(crate) use children::ended_file;
pub(crate) use container::set_size;
pub(crate) use log::older as older_log;
pub(crate) use socket::socket_in;
pub(crate) use syscalls::{Within, open_within};

/// The name (`argv[0]`) under which the program is started to be the zygote.
pub(crate) const ZYGOTE: &str = "sandlot-zygote";

/// Becomes the zygote and never returns, when this process was started to be it.
///
/// Must be the first thing in `main` of every program that embeds a node: before any
/// thread, any runtime and any reading of arguments.
pub fn enter_if_called() {
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == ZYGOTE)
    {
        zygote::run();
    }
}
