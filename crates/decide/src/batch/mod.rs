//! Batches: which pods one has, where it stands, which pool suits it, and how one is paused.

mod choice;
mod pause;
mod slots;
mod standing;

pub use choice::{Candidate, Operator, Predicate, Preference, Profile, Requirement, Wish, choose};
pub use pause::{PauseFacts, PauseStep, PodNow, Saved, next_step};
pub use slots::Slots;
pub use standing::{Facts, Lack, Standing, Unwell, stand};
