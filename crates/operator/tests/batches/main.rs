//! Pools and batches of `sandbox.opensandbox.io`, as their users see them.

#![allow(unreachable_pub)]

mod end;
mod executors;
mod pauses;
mod pooled;
mod pools;
mod saving;
mod snapshots;
mod stage;
mod tasks;
mod unpooled;
