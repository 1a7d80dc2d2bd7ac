//! Which objects a request is about: label selectors and field selectors.

mod field;
mod label;
mod lexer;

pub use self::{
    field::{FieldSelector, text_at},
    label::{LabelSelector, Operator, Requirement},
};

/// How long the text of a selector may be.
const MAX_LENGTH: usize = 64 * 1024;

/// Why a selector was refused: 400 `BadRequest`, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

fn check_length(text: &str) -> Result<(), SelectorError> {
    if text.len() > MAX_LENGTH {
        return Err(SelectorError(format!(
            "a selector may not be longer than {MAX_LENGTH} bytes, this one has {}",
            text.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
