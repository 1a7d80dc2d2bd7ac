//! What Kubernetes objects mean: schemas, patches, apply, selectors, tables and the
//! protobuf encoding, as pure functions over JSON. No I/O, no clock, no async.
//!
//! # The way of an object through a server
//!
//! 1. [`schema::parse_strict`] reads the body and tells the fields that stand in it twice;
//!    [`protobuf::decode`] reads what `kubectl create` sends for built-in kinds.
//! 2. [`schema::prune`] drops the fields that the kind does not know and tells their paths.
//! 3. Defaults: [`schema::default`] for custom kinds ([`crd::Version::default`]), and
//!    [`builtin::defaults::apply`] for built-in ones.
//! 4. [`meta::validate`] looks at what every object has.
//! 5. Rules: [`crd::Version::validate`] for custom kinds (shape, list types, CEL), and
//!    [`builtin::rules::validate`] for built-in ones.
//!
//! Faults come as [`schema::Cause`]s, worded as Kubernetes words them;
//! [`schema::summary`] makes them the text of a `Status`.
//!
//! # Changes
//!
//! A [`shape::Shape`] is a schema to walk beside a value. With it, [`patch`] applies the
//! three patch formats and [`apply::apply`] merges what a manager applies; every other write
//! goes through [`apply::track`], so that the owners of fields are known to the next apply.
//!
//! # Lists
//!
//! [`selector`] chooses objects by labels and fields, and [`table::Columns`] shows them as
//! `kubectl get` does.
//!
//! # Kinds
//!
//! [`builtin::schema()`] has the built-in types. A CustomResourceDefinition goes through
//! [`crd::default`], [`crd::validate()`] and [`crd::status()`], and
//! [`crd::Definition::parse`] turns it into what the server needs. [`openapi`] describes
//! both to clients.

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
pub mod table;
