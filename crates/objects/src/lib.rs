//! What Kubernetes objects mean: schemas, patches, apply, selectors, tables and the
//! protobuf encoding, as pure functions over JSON. No I/O, no clock, no async.

pub mod apply;
pub mod builtin;
pub mod cel;
pub mod crd;
pub mod meta;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod schema;
pub mod selector;
pub mod shape;
