//! What a cluster does by itself, as its users see it.

mod accounts;
mod garbage;
mod namespaces;
mod office;
