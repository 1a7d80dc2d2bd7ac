//! Decisions about robots and the work on them, against made-up worlds.

mod course;
mod placing;
mod replicas;
mod rollout;
