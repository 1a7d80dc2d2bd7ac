//! Where committed writes go.

use std::sync::Arc;

use crate::intake::{Accepted, Unsettled};

/// Why a commit failed, in words.
pub(crate) type Refusal = Arc<str>;

/// Something that keeps writes. Only the writer thread calls it, and drops it when all is done.
pub(crate) trait Storage<F>: Send {
    /// Begins on writes that are not durable before the next commit, which begins with all those
    /// that were begun on, in their order. Says whether it could: where not, it has begun on none
    /// and is asked no more before that commit, which finds out what is wrong.
    fn begin(&mut self, _writes: &[Unsettled<F>]) -> bool {
        false
    }

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
