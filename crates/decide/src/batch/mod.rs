//! Batches: which pods one has, where it stands, and which pool suits it.

mod choice;
mod slots;
mod standing;

pub use choice::{Candidate, Wish, choose};
pub use slots::Slots;
pub use standing::{Facts, Lack, Standing, Unwell, stand};
