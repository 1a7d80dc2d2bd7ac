//! When a task may start, which step is next, what its end means, and how much of it is kept.

mod course;
mod ending;
mod room;
mod start;

pub use course::{Course, DEFAULT_TIMEOUT, Next};
pub use ending::{Ended, Ending, signal_name};
pub use room::share;
pub use start::{SandboxView, Start, start};
