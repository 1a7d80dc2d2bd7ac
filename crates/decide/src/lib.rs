//! What to do, given what is wanted, what is seen and what time it is.
//!
//! Nothing here waits, reads a clock or talks to anybody: every decision is a function from
//! facts to actions, so that each can be tried against thousands of made-up worlds.
//!
//! - [`pool`]: how many pods to make, which to remove, which to replace and when.
//! - [`batch`]: which pods a batch has by index, where it stands, which pool suits it.
//! - [`shelf`]: which ready pod goes to which waiting claim.
//! - [`sandbox`]: where a sandbox stands and when its time is over.
//! - [`session`]: how a session and its executions go on, and when a session's time is over.
//! - [`task`]: when a task may start, which step is next, what its end means.
//! - [`robots`]: who is there, what goes where, what a report means, how an edit is rolled out.
//! - [`expiry`]: when what is finished may be removed.

pub mod backoff;
pub mod batch;
pub mod expiry;
pub mod pool;
pub mod robots;
pub mod sandbox;
mod seniority;
pub mod session;
pub mod shelf;
pub mod task;

pub use seniority::Seniority;
