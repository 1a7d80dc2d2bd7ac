//! The bridge between an embedded API and an embedded broker, with robots that are simulated or
//! played by the test.

mod access;
mod commands;
mod deployments;
mod jobs;
mod listener;
mod losses;
mod presence;
mod published;
mod rollouts;
mod stage;
mod turns;
