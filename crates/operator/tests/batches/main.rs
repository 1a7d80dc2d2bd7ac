//! Pools and batches of `sandbox.opensandbox.io`, as their users see them.

#![allow(unreachable_pub)]

mod end;
mod executors;
mod pooled;
mod pools;
mod stage;
mod tasks;
mod unpooled;
