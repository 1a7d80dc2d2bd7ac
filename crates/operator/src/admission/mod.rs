//! What may be written: defaults and rules for each kind, as pure functions over JSON.
//!
//! The same rules run in process on an embedded cluster and behind a webhook on any other. They
//! say what the schema cannot: which fields belong to which step, what may change once something
//! has started, and how to put it right.

mod pool;
pub mod robots;
mod sandbox;
mod task;
pub(crate) mod webhook;

pub use webhook::Webhook;
pub(crate) use webhook::{LIFETIME, SHORTEST_LIFETIME};

use std::fmt;

use serde_json::Value;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A new state of an object.
    Update,
    /// The end of an object.
    Delete,
}

/// What the user should be told although the write goes through.
pub type Warnings = Vec<String>;

/// Why an object may not be written so: every fault at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The faults, in the order in which they stand in the object.
    pub faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a path such as `spec.steps[0].command`.
    pub field: String,
    /// What is wrong and how to put it right.
    pub message: String,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", fault.field, fault.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Denied {}

/// Whether the rules here have anything to say about a kind of `arl.infra.io`.
pub fn concerns(kind: &str) -> bool {
    matches!(kind, "WarmPool" | "Sandbox" | "Task")
}

/// Fills in what an object leaves out. Doing it again changes nothing.
pub fn fill_in(kind: &str, object: &mut Value) {
    if robots::owns(object) {
        return robots::fill_in(kind, object);
    }
    if kind == "Task" {
        task::fill_in(object);
    }
}

/// Accepts or refuses an object. On a delete, `object` is the one to be deleted.
pub fn check(
    kind: &str,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<Warnings, Denied> {
    let mut findings = Findings::default();
    match (kind, operation) {
        (_, Operation::Delete) if robots::owns(object) => {}
        (kind, _) if robots::owns(object) => robots::check(kind, object, old, &mut findings),
        ("WarmPool", Operation::Delete) => pool::check_delete(object, &mut findings),
        (_, Operation::Delete) => {}
        ("WarmPool", _) => pool::check(object, &mut findings),
        ("Sandbox", _) => sandbox::check(object, old, &mut findings),
        ("Task", _) => task::check(object, old, &mut findings),
        _ => {}
    }
    if findings.faults.is_empty() {
        Ok(findings.warnings)
    } else {
        Err(Denied {
            faults: findings.faults,
        })
    }
}

/// Fills in and checks in one go. The caller leaves subresources out.
pub fn review(
    kind: &str,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<Warnings, Denied> {
    if operation != Operation::Delete {
        fill_in(kind, object);
    }
    check(kind, operation, object, old)
}

/// What the rules find.
#[derive(Default)]
struct Findings {
    faults: Vec<Fault>,
    warnings: Warnings,
}

impl Findings {
    fn fault(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault {
            field: field.into(),
            message: message.into(),
        });
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// A reference to an object of the same namespace.
    fn reference(&mut self, spec: &Value, field: &str, what: &str) {
        match spec[field].as_str() {
            Some(name) if is_name(name) => {}
            Some("") | None => {
                self.fault(format!("spec.{field}"), format!("name {what}, in the same namespace"));
            }
            Some(name) => self.fault(
                format!("spec.{field}"),
                format!("{name:?} cannot be the name of an object: use lower-case letters, digits, '-' and '.'"),
            ),
        }
    }

    /// A number of seconds or the like, which may be absent.
    fn not_negative(&mut self, spec: &Value, field: &str) {
        if let Some(number) = spec[field].as_i64().filter(|number| *number < 0) {
            self.fault(
                format!("spec.{field}"),
                format!("{number} is negative: use 0 or more"),
            );
        }
    }
}

/// Whether a text can be the name of an object (a DNS subdomain).
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(inner)
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// Whether an optional field is there; null counts as absent.
fn given<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    object.get(field).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests;
