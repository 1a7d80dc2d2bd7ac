//! Why an apply was refused, in the words of a Kubernetes API server.

use std::fmt;

/// A field that another manager owns and that the apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager as Kubernetes names it: `"kubectl" using v1`.
    pub manager: String,
    /// The field: `.spec.replicas`.
    pub path: String,
}

impl Conflict {
    /// What the cause of the Status says.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// All conflicts of one apply; there is at least one, and they are in order of manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

impl fmt::Display for Conflicts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(
                out,
                "Apply failed with 1 conflict: {}: {}",
                only.message(),
                only.path
            );
        }
        write!(out, "Apply failed with {} conflicts: ", self.0.len())?;
        for (place, group) in self.0.chunk_by(|a, b| a.manager == b.manager).enumerate() {
            if place > 0 {
                writeln!(out)?;
            }
            write!(out, "conflicts with {}:", group[0].manager)?;
            for conflict in group {
                write!(out, "\n- {}", conflict.path)?;
            }
        }
        Ok(())
    }
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own what it would change: 409 `Conflict` with a cause per field.
    #[error("{0}")]
    Conflicts(Conflicts),
    /// The configuration makes no sense: 400 `BadRequest`.
    #[error("{0}")]
    Invalid(String),
}
