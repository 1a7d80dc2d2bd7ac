//! A bound on what an evaluation may cost.
//!
//! The interpreter has no bound of its own, so expressions are metered: see
//! [`super::meter`]. What they call spends from the budget held here. It is bound to the
//! thread because the interpreter's functions cannot be handed anything else, and an
//! evaluation never leaves its thread.

use std::cell::Cell;

use kube_cel::cel::{ExecutionError, Value};

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// Runs `evaluation` with what is left of `budget`, and takes off what it spent. A budget
/// of 0 afterwards means that it did not suffice.
pub(super) fn within<R>(budget: &mut u64, evaluation: impl FnOnce() -> R) -> R {
    let before = LEFT.replace(*budget);
    let result = evaluation();
    *budget = LEFT.replace(before);
    result
}

/// Spends, or fails for good: once the budget is gone every further call fails as well.
pub(super) fn spend(cost: u64) -> Result<(), ExecutionError> {
    match LEFT.get().checked_sub(cost).filter(|&left| left > 0) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => {
            LEFT.set(0);
            Err(ExecutionError::function_error(
                "budget",
                "cost limit exceeded",
            ))
        }
    }
}

/// What handling a value once costs: one for each part, and a tenth for each character.
pub(super) fn weight(value: &Value) -> u64 {
    match value {
        Value::List(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Map(map) => 1 + map.map.values().map(|value| 2 + weight(value)).sum::<u64>(),
        Value::String(text) => 1 + text.len() as u64 / 10,
        Value::Bytes(bytes) => 1 + bytes.len() as u64 / 10,
        _ => 1,
    }
}

/// How many parts or characters a value has.
pub(super) fn length(value: &Value) -> u64 {
    match value {
        Value::List(items) => items.len() as u64,
        Value::Map(map) => map.map.len() as u64,
        Value::String(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    }
}
