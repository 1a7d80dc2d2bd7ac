//! Label selectors, in their string form and as `LabelSelector` objects.

use std::{collections::BTreeSet, fmt};

use serde_json::{Map, Value};

use super::{
    SelectorError, check_length,
    lexer::{Lexer, Token},
};
use crate::{meta::names, schema::Cause};

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label has one of the values.
    In,
    /// The label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is a number above the value.
    GreaterThan,
    /// The label is a number below the value.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

impl Requirement {
    /// A condition, if the key and the values may stand in labels and suit the operator.
    pub fn new(
        key: &str,
        operator: Operator,
        values: BTreeSet<String>,
    ) -> Result<Self, SelectorError> {
        check_key(key)?;
        let refuse = |field: String, value: Value, why: &str| {
            Err(SelectorError(
                Cause::invalid(field, &value, why).to_string(),
            ))
        };
        let listed = || Value::from_iter(values.iter().map(String::as_str));
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                let why = "for 'in', 'notin' operators, values set can't be empty";
                return refuse("values".into(), listed(), why);
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let why = "values set must be empty for exists and does not exist";
                return refuse("values".into(), listed(), why);
            }
            Operator::GreaterThan | Operator::LessThan => {
                let mut numbers = values.iter().map(|value| value.parse::<i64>());
                if !matches!((numbers.next(), numbers.next()), (Some(Ok(_)), None)) {
                    let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                    return refuse("values[0]".into(), listed(), why);
                }
            }
            _ => {}
        }
        for (place, value) in values.iter().enumerate() {
            if let Some(why) = names::label_value(value).first() {
                return refuse(
                    format!("values[{place}][{key}]"),
                    value.as_str().into(),
                    why,
                );
            }
        }
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is asked of it.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values to compare with.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// Whether a label with this value, or its absence, meets the condition.
    pub fn accepts(&self, label: Option<&str>) -> bool {
        let compare = |holds: fn(i64, i64) -> bool| {
            let label = label.and_then(|label| label.parse::<i64>().ok());
            let bound = self
                .values
                .first()
                .and_then(|bound| bound.parse::<i64>().ok());
            label
                .zip(bound)
                .is_some_and(|(label, bound)| holds(label, bound))
        };
        match self.operator {
            Operator::In => label.is_some_and(|label| self.values.contains(label)),
            Operator::NotIn => label.is_none_or(|label| !self.values.contains(label)),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => compare(|label, bound| label > bound),
            Operator::LessThan => compare(|label, bound| label < bound),
        }
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    match names::qualified_name(key).first() {
        None => Ok(()),
        Some(why) => Err(SelectorError(
            Cause::invalid("", &key.into(), why).to_string(),
        )),
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            operator,
            values,
        } = self;
        let joined = || {
            values
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(",")
        };
        match (operator, values.len()) {
            (Operator::Exists, _) => write!(out, "{key}"),
            (Operator::DoesNotExist, _) => write!(out, "!{key}"),
            (Operator::In, 1) => write!(out, "{key}={}", joined()),
            (Operator::NotIn, 1) => write!(out, "{key}!={}", joined()),
            (Operator::In, _) => write!(out, "{key} in ({})", joined()),
            (Operator::NotIn, _) => write!(out, "{key} notin ({})", joined()),
            (Operator::GreaterThan, _) => write!(out, "{key}>{}", joined()),
            (Operator::LessThan, _) => write!(out, "{key}<{}", joined()),
        }
    }
}

/// Conditions on labels that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    All(Vec<Requirement>),
    Nothing,
}

impl LabelSelector {
    /// The selector that every object satisfies.
    pub fn everything() -> Self {
        Self(Kind::All(Vec::new()))
    }

    /// The selector that no object satisfies.
    pub fn nothing() -> Self {
        Self(Kind::Nothing)
    }

    /// Reads the string form: `a=b,c!=d,e in (f,g),!h`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        check_length(text)?;
        let mut tokens = Lexer::new(text);
        let mut all = Vec::new();
        loop {
            match tokens.peek() {
                Token::End => return Ok(Self(Kind::All(all))),
                Token::Word(_) | Token::Symbol("!") => {
                    all.push(
                        parse_requirement(&mut tokens).map_err(|SelectorError(why)| {
                            SelectorError(format!("unable to parse requirement: {why}"))
                        })?,
                    );
                }
                other => return Err(found(other, "!, identifier, or 'end of string'")),
            }
            match tokens.take() {
                Token::End => return Ok(Self(Kind::All(all))),
                Token::Symbol(",") => match tokens.peek() {
                    Token::Word(_) | Token::Symbol("!") => {}
                    other => return Err(found(other, "identifier after ','")),
                },
                other => return Err(found(other, "',' or 'end of string'")),
            }
        }
    }

    /// Reads a `LabelSelector` object. One that is absent selects nothing, an empty one
    /// selects everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let selector = match selector {
            None | Some(Value::Null) => return Ok(Self::nothing()),
            Some(selector) => selector,
        };
        let mut all = Vec::new();
        let labels = selector.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            all.push(Requirement::new(key, Operator::In, [value].into())?);
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let word = expression
                .get("operator")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let operator = match word {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => {
                    return Err(SelectorError(format!(
                        "{word:?} is not a valid label selector operator"
                    )));
                }
            };
            let key = expression
                .get("key")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let values = expression.get("values").and_then(Value::as_array);
            let values = values.into_iter().flatten().filter_map(Value::as_str);
            all.push(Requirement::new(
                key,
                operator,
                values.map(str::to_owned).collect(),
            )?);
        }
        Ok(Self(Kind::All(all)))
    }

    /// Whether these labels satisfy the selector.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        match &self.0 {
            Kind::Nothing => false,
            Kind::All(all) => all.iter().all(|requirement| {
                let label = labels.and_then(|labels| labels.get(&requirement.key));
                requirement.accepts(label.and_then(Value::as_str))
            }),
        }
    }

    /// Whether the labels of `object` satisfy the selector.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.get("metadata").and_then(|meta| meta.get("labels"));
        self.matches_labels(labels.and_then(Value::as_object))
    }

    /// Whether every object satisfies the selector.
    pub fn is_everything(&self) -> bool {
        matches!(&self.0, Kind::All(all) if all.is_empty())
    }

    /// The conditions. None if no object satisfies the selector.
    pub fn requirements(&self) -> Option<&[Requirement]> {
        match &self.0 {
            Kind::All(all) => Some(all),
            Kind::Nothing => None,
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, requirement) in self.requirements().unwrap_or_default().iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(out, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

fn found(token: Token<'_>, expected: &str) -> SelectorError {
    SelectorError(format!("found '{}', expected: {expected}", token.text()))
}

fn parse_requirement(tokens: &mut Lexer<'_>) -> Result<Requirement, SelectorError> {
    let negated = tokens.peek() == Token::Symbol("!");
    if negated {
        tokens.take();
    }
    let key = match tokens.take() {
        Token::Word(key) => key,
        other => return Err(found(other, "identifier")),
    };
    check_key(key)?;
    if negated {
        return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
    }
    if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        return Requirement::new(key, Operator::Exists, BTreeSet::new());
    }
    let (operator, listed) = match tokens.take() {
        Token::Word("in") => (Operator::In, true),
        Token::Word("notin") => (Operator::NotIn, true),
        Token::Symbol("=" | "==") => (Operator::In, false),
        Token::Symbol("!=") => (Operator::NotIn, false),
        Token::Symbol(">") => (Operator::GreaterThan, false),
        Token::Symbol("<") => (Operator::LessThan, false),
        other => return Err(found(other, OPERATORS)),
    };
    let values = if listed {
        parse_values(tokens)?
    } else {
        parse_value(tokens)?
    };
    Requirement::new(key, operator, values)
}

fn parse_value(tokens: &mut Lexer<'_>) -> Result<BTreeSet<String>, SelectorError> {
    if matches!(tokens.peek(), Token::End | Token::Symbol(",")) {
        return Ok([String::new()].into());
    }
    match tokens.take() {
        Token::Word(value) => Ok([value.to_owned()].into()),
        other => Err(found(other, "identifier")),
    }
}

/// Reads `(a,b)`. Between commas, nothing stands for the empty value.
fn parse_values(tokens: &mut Lexer<'_>) -> Result<BTreeSet<String>, SelectorError> {
    match tokens.take() {
        Token::Symbol("(") => {}
        other => return Err(found(other, "'('")),
    }
    let mut values = BTreeSet::new();
    if tokens.peek() == Token::Symbol(")") {
        tokens.take();
        return Ok(values);
    }
    loop {
        match tokens.peek() {
            Token::Word(value) => {
                tokens.take();
                values.insert(value.to_owned());
            }
            Token::Symbol("," | ")") => {
                values.insert(String::new());
            }
            other => return Err(found(other, "',', ')' or identifier")),
        }
        match tokens.take() {
            Token::Symbol(",") => {}
            Token::Symbol(")") => return Ok(values),
            other => return Err(found(other, "',' or ')'")),
        }
    }
}
