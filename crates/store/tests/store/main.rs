//! What users of a store would notice.

mod crash;
mod fixture;
mod lists;
mod opening;
mod past;
mod resuming;
mod watches;
mod writes;
