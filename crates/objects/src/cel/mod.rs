//! CEL: the rules in custom schemas, and expressions in policies.
//!
//! The language and its Kubernetes functions come from `kube-cel`. What is added here is
//! what a server that takes expressions from strangers needs: they are bounded in size,
//! checked against the schema when they arrive, estimated, and metered when they run.

mod budget;
mod check;
pub(crate) mod estimate;
mod expression;
mod functions;
mod meter;
mod rules;
#[cfg(test)]
mod tests;
mod values;

pub use kube_cel::cel::Value;

pub(crate) use self::check::{Place, check_rule};
pub use self::{
    expression::{EvaluationError, Expression},
    rules::Rules,
    values::of_json,
};
