//! Robots and the work on them: who is there, what goes where, what a report means, what to do
//! when something fails or somebody is gone, how an edit reaches what runs.

pub mod budget;
pub mod constraint;
pub mod course;
pub mod liveness;
pub mod placement;
pub mod replicas;
pub mod rollout;
pub mod tally;
