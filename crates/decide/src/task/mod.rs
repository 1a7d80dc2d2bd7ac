//! When a task may start, which step is next, and what its end means.

mod course;
mod ending;
mod start;

pub use course::{Course, DEFAULT_TIMEOUT, Next};
pub use ending::{Ended, Ending, signal_name};
pub use start::{SandboxView, Start, start};
