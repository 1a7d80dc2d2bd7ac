//! The replicas of a group: which runs there are, which one counts, what is to be started,
//! stopped or given up.
//!
//! A replica is run again and again, each attempt on one robot, until one ends well or nothing
//! more is to be tried. Of several attempts that are alive the earliest wins: that is how a
//! robot that was cut off and comes back keeps its work.

mod look;
mod plan;

pub use look::{Replica, Run, Standing, TaskFact, read};
pub use plan::{Group, Plan, Start, plan};
