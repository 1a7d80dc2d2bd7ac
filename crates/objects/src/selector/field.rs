//! Field selectors: `metadata.name=a,status.phase!=Running`.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use super::{SelectorError, check_length};

/// Conditions on fields that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// The selector that every object satisfies.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads a selector: terms `field=value`, `field==value` or `field!=value` with commas
    /// between them. In values `,`, `=` and `\` are escaped by `\`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let Some((field, equal, value)) = split_term(part) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            terms.push(Term {
                field: field.to_owned(),
                value: unescape(value)?,
                equal,
            });
        }
        Ok(Self(terms))
    }

    /// Refuses the selector if it names a field that the kind cannot select by.
    pub fn check(&self, supported: impl Fn(&str) -> bool) -> Result<(), SelectorError> {
        match self.0.iter().find(|term| !supported(&term.field)) {
            Some(term) => Err(SelectorError(format!(
                "field label not supported: {}",
                term.field
            ))),
            None => Ok(()),
        }
    }

    /// Whether an object satisfies the selector whose fields are given by `field` as text.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.0
            .iter()
            .all(|term| (field(&term.field) == term.value) == term.equal)
    }

    /// Whether every object satisfies the selector.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The one value that the selector allows a field to have, if there is one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let term = self.0.iter().find(|term| term.equal && term.field == field);
        term.map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, term) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let sign = if term.equal { "=" } else { "!=" };
            write!(out, "{comma}{}{sign}", term.field)?;
            for c in term.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    write!(out, "\\")?;
                }
                write!(out, "{c}")?;
            }
        }
        Ok(())
    }
}

/// The text of the field at a dotted path, as selectors compare it: nothing if absent.
pub fn text_at<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let value = field
        .split('.')
        .try_fold(object, |value, name| value.get(name));
    match value {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(plain @ (Value::Bool(_) | Value::Number(_))) => Cow::Owned(plain.to_string()),
        _ => Cow::Borrowed(""),
    }
}

/// Splits at the commas that no backslash escapes.
fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

/// Splits at the first operator that no backslash escapes.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let mut escaped = false;
    for (at, c) in term.char_indices() {
        if !escaped {
            let (field, rest) = term.split_at(at);
            for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
                if let Some(value) = rest.strip_prefix(operator) {
                    return Some((field, equal, value));
                }
            }
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            c => plain.push(c),
        }
    }
    Ok(plain)
}
