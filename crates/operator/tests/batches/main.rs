//! Pools and batches of `sandbox.opensandbox.io`, as their users see them.

#![allow(unreachable_pub)]

mod end;
mod executors;
#[path = "../floor/mod.rs"]
mod floor;
mod pauses;
mod pooled;
mod pools;
mod saving;
mod snapshots;
mod stage;
mod tasks;
mod unpooled;
