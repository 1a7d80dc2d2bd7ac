//! What a cluster does by itself, as its users see it.

mod accounts;
mod endpoints;
mod events;
mod garbage;
mod namespaces;
mod office;
