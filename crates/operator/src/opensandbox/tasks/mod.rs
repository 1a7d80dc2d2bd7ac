//! Tasks: one process in each pod of a batch, the i-th in the i-th.
//!
//! A courier goes to a pod's executor with the task, comes back with what changed, and goes again
//! until the task has ended. Asking for the same task twice starts it once, so a courier of a new
//! operator simply asks again.

mod courier;
mod http;
mod patches;
mod shard;

pub(crate) use courier::{Courier, Errand, News, Order, Told};
pub(crate) use http::Door;
pub(crate) use patches::task_of;
pub(crate) use shard::{Purpose, Shard, Standing};
