//! Where committed writes go.

use std::sync::Arc;

use crate::intake::Accepted;

/// Why a commit failed, in words.
pub(crate) type Refusal = Arc<str>;

/// Something that keeps writes. Only the writer thread calls it, and drops it when all is done.
pub(crate) trait Storage<F>: Send {
    /// Makes all of these writes durable, or none of them.
    fn commit(&mut self, batch: &[Accepted<F>]) -> Result<(), Refusal>;
}

/// Keeps nothing: for stores that live in memory.
pub(crate) struct Nowhere;

impl<F> Storage<F> for Nowhere {
    fn commit(&mut self, _: &[Accepted<F>]) -> Result<(), Refusal> {
        Ok(())
    }
}
