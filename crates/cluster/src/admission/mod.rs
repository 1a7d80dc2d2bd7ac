//! What looks at a write before it is stored, and may change or refuse it.

mod chain;
mod request;

pub use chain::{Admission, Chain};
pub use request::{AdmissionRequest, Operation, Resource};

/// What the client should be told although its request went through.
pub type Warnings = Vec<String>;

/// Why a write is refused: the answer to give.
pub type Denied = crate::status::ApiError;
