//! Reads what clients send, field by field, and says everything that is wrong with it at once.
//! Fields that nobody asks for are ignored: clients send more than they need to.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde_json::{Map, Value, json};

use crate::refusal::{Fault, Refusal};

/// The longest environment variable: the kernel refuses a program that is given a longer one.
const LONGEST_VARIABLE: usize = 96 << 10;

/// The fields of a body or of a query, and what is wrong with them so far.
pub(crate) struct Fields {
    whence: &'static str,
    fields: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    /// The fields of a JSON body.
    pub(crate) fn of_body(body: &[u8]) -> Result<Self, Refusal> {
        let fault = |kind, message: String, input| {
            Refusal::Schema(vec![Fault {
                kind,
                at: vec![json!("body")],
                message,
                input,
            }])
        };
        if body.is_empty() {
            return Err(fault("missing", "Field required".to_owned(), Value::Null));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self::new("body", fields)),
            Ok(other) => {
                let message = "Input should be a valid dictionary".to_owned();
                Err(fault("model_attributes_type", message, other))
            }
            Err(error) => Err(fault(
                "json_invalid",
                format!("JSON decode error: {error}"),
                json!({}),
            )),
        }
    }

    /// The fields of a query, where everything is text.
    pub(crate) fn of_query(query: &BTreeMap<String, String>) -> Self {
        let fields = query
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)));
        Self::new("query", fields.collect())
    }

    fn new(whence: &'static str, fields: Map<String, Value>) -> Self {
        Self {
            whence,
            fields,
            faults: Vec::new(),
        }
    }

    /// What is wrong, if anything is.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        match self.faults.is_empty() {
            true => Ok(()),
            false => Err(Refusal::Schema(self.faults)),
        }
    }

    /// Notes that a field is wrong.
    pub(crate) fn fault(&mut self, name: &str, kind: &'static str, message: impl Into<String>) {
        self.fault_in(name, &[], kind, message);
    }

    /// Notes that something in a field is wrong, and which part of it.
    pub(crate) fn fault_in(
        &mut self,
        name: &str,
        part: &[Value],
        kind: &'static str,
        message: impl Into<String>,
    ) {
        let field = self.fields.get(name).unwrap_or(&Value::Null);
        let within = part.iter().try_fold(field, |value, step| match step {
            Value::String(name) => value.get(name),
            step => value.get(usize::try_from(step.as_u64()?).ok()?),
        });
        let input = within.cloned().unwrap_or(Value::Null);
        let at = [json!(self.whence), json!(name)];
        self.faults.push(Fault {
            kind,
            at: at.into_iter().chain(part.iter().cloned()).collect(),
            message: message.into(),
            input,
        });
    }

    /// A field, unless it is absent or null.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Notes that a field is missing, if it is.
    pub(crate) fn require(&mut self, name: &str) {
        if self.value(name).is_none() {
            self.fault(name, "missing", "Field required");
        }
    }

    /// Text of so many characters.
    pub(crate) fn text(&mut self, name: &str, length: RangeInclusive<usize>) -> Option<String> {
        let value = self.value(name)?.clone();
        let Value::String(text) = value else {
            self.fault(name, "string_type", "Input should be a valid string");
            return None;
        };
        let (kind, message) = match text.chars().count() {
            count if count < *length.start() => (
                "string_too_short",
                format!(
                    "String should have at least {} character{}",
                    length.start(),
                    if *length.start() == 1 { "" } else { "s" }
                ),
            ),
            count if count > *length.end() => (
                "string_too_long",
                format!("String should have at most {} characters", length.end()),
            ),
            _ => return Some(text),
        };
        self.fault(name, kind, message);
        None
    }

    /// An id, which becomes a part of names and paths.
    pub(crate) fn id(&mut self, name: &str) -> Option<String> {
        let id = self.text(name, 1..=64)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins = id.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && id.chars().all(is_plain) {
            return Some(id);
        }
        let message = "String should begin with a letter or digit and have only letters, digits, '.', '_' and '-'";
        self.fault(name, "string_pattern_mismatch", message);
        None
    }

    /// A whole number within bounds. Numbers may be written as text, as in a query.
    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(name)?;
        let whole =
            |number: f64| (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64);
        let number = match value {
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            self.fault(name, "int_parsing", "Input should be a valid integer");
            return None;
        };
        self.within(
            name,
            number as f64,
            *range.start() as f64,
            *range.end() as f64,
        )?;
        Some(number)
    }

    /// A number within bounds.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.value(name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
            _ => None,
        };
        let Some(number) = number else {
            self.fault(name, "float_parsing", "Input should be a valid number");
            return None;
        };
        self.within(name, number, *range.start(), *range.end())?;
        Some(number)
    }

    fn within(&mut self, name: &str, number: f64, least: f64, most: f64) -> Option<()> {
        let (kind, message) = if number < least {
            (
                "greater_than_equal",
                format!("Input should be greater than or equal to {least}"),
            )
        } else if number > most {
            (
                "less_than_equal",
                format!("Input should be less than or equal to {most}"),
            )
        } else {
            return Some(());
        };
        self.fault(name, kind, message);
        None
    }

    /// Yes or no, also as text.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let flag = match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if flag.is_none() {
            self.fault(name, "bool_parsing", "Input should be a valid boolean");
        }
        flag
    }

    /// One of several words.
    pub(crate) fn one_of(&mut self, name: &str, words: &[&str]) -> Option<String> {
        let value = self.value(name)?;
        match value.as_str().filter(|text| words.contains(text)) {
            Some(text) => Some(text.to_owned()),
            None => {
                let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
                let list = match quoted.split_last() {
                    Some((last, others)) if !others.is_empty() => {
                        format!("{} or {last}", others.join(", "))
                    }
                    _ => quoted.concat(),
                };
                let message = format!("Input should be {list}");
                self.fault(name, "enum", message);
                None
            }
        }
    }

    /// Environment variables. What no system could hand to a program is refused here, not when
    /// the first program is to start.
    pub(crate) fn variables(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let variables = self.texts(name)?;
        let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
        let fits = |(name, value): (&String, &String)| {
            is_name(name) && !value.contains('\0') && name.len() + value.len() <= LONGEST_VARIABLE
        };
        if variables.iter().all(fits) {
            return Some(variables);
        }
        let message = format!(
            "Value error, a variable's name has no '=', and with its value it has at most \
             {LONGEST_VARIABLE} bytes without zeros"
        );
        self.fault(name, "value_error", message);
        None
    }

    /// Texts by name.
    pub(crate) fn texts(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let value = self.value(name)?;
        let texts = value.as_object().and_then(|object| {
            let pair =
                |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
            object.iter().map(pair).collect()
        });
        if texts.is_none() {
            self.fault(
                name,
                "dict_type",
                "Input should be an object whose values are strings",
            );
        }
        texts
    }

    /// Any object.
    pub(crate) fn object(&mut self, name: &str) -> Option<Value> {
        let value = self.value(name)?.clone();
        if !value.is_object() {
            self.fault(name, "dict_type", "Input should be a valid dictionary");
            return None;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_where() {
        let mut fields =
            Fields::of_body(br#"{"timeout": 0, "name": "", "env": {"a": 1}, "extra": {}}"#)
                .unwrap();
        fields.require("code");
        assert_eq!(fields.integer("timeout", 1..=3600), None);
        assert_eq!(fields.text("name", 1..=64), None);
        assert_eq!(fields.texts("env"), None);
        let Err(Refusal::Schema(faults)) = fields.finish() else {
            panic!("refused")
        };
        let kinds: Vec<_> = faults
            .iter()
            .map(|fault| (fault.kind, &fault.at[1]))
            .collect();
        assert_eq!(
            kinds,
            [
                ("missing", &json!("code")),
                ("greater_than_equal", &json!("timeout")),
                ("string_too_short", &json!("name")),
                ("dict_type", &json!("env")),
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_refused_with_a_reason() {
        for (body, kind) in [
            ("[1]", "model_attributes_type"),
            ("{", "json_invalid"),
            ("", "missing"),
        ] {
            let Err(Refusal::Schema(faults)) = Fields::of_body(body.as_bytes()) else {
                panic!("{body:?} is refused")
            };
            assert_eq!(faults[0].kind, kind);
        }
    }

    #[test]
    fn queries_hold_numbers_as_text() {
        let query = BTreeMap::from([("limit".to_owned(), "7".to_owned())]);
        assert_eq!(Fields::of_query(&query).integer("limit", 1..=10), Some(7));
    }
}
