//! What a cluster does by itself, as its users see it.

mod accounts;
mod endpoints;
mod garbage;
mod namespaces;
mod office;
