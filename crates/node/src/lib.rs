//! The embedded node.

mod keeper;

pub use keeper::enter_if_called;
