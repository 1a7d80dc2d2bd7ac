//! Pods: how one is made from a template, and how one is.

mod build;
pub(crate) mod health;
pub(crate) mod stock;

pub(crate) use build::{Keys, Owner, build, fresh_name, pool_reference};
