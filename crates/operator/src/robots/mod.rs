//! `robot.k8s4r.io`: robots, jobs, groups and tasks.
//!
//! Watches feed an index, thin controllers look at what has changed and put writes on a tray, a
//! loop of the make that all families have sends them off and takes the answers in. What is said to the robots, and what they say, is the bridge's part:
//! it sees the Tasks made here and writes their status.

mod answers;
mod bridges;
mod build;
mod deployment;
mod fleet;
mod group;
mod index;
mod job;
mod pace;
mod robot;
mod sights;
mod task;
mod trouble;
mod work;
mod world;
mod writes;

pub(crate) use world::World;
