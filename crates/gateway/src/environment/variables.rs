//! Reading variables: as text, as yes or no, as whatever text can say.

use super::BadVariable;

/// Looks variables up.
pub(super) struct Variables<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    /// Yes or no, in any of the words for it.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, BadVariable> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(BadVariable::Value {
                name,
                value,
                wanted: "true or false",
            }),
        }
    }

    /// An empty variable says as little as none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// What can be read from text, such as a number.
    pub(super) fn parsed<T: std::str::FromStr>(
        &self,
        name: &'static str,
        wanted: &'static str,
    ) -> Result<Option<T>, BadVariable> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.trim().to_ascii_lowercase().parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(BadVariable::Value {
                name,
                value,
                wanted,
            }),
        }
    }
}
