//! The paths of printer columns: Kubernetes' own small dialect of JSONPath.
//!
//! `.spec.replicas`, `.metadata.labels.app\.kubernetes\.io/name`, `['key']`, `[0]`, `[-1]`,
//! `[*]`, `[1:3]` and `[?(@.type=="Ready")].status`.

use serde_json::Value;

/// How many steps a path may have.
const MAX_STEPS: usize = 64;

/// A path into an object.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Vec<Step>,
    test: Option<(Comparison, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a path was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathError(String);

impl JsonPath {
    /// Reads a path, with or without the braces that kubectl writes around it.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = text.trim();
        let inner = inner
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(inner);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        if inner == "." {
            return Ok(Self(Vec::new()));
        }
        let mut parser = Parser {
            rest: inner,
            whole: text,
        };
        let steps = parser.steps(|_| false)?;
        if steps.is_empty() {
            return Err(parser.error("is empty"));
        }
        Ok(Self(steps))
    }

    /// The first value that the path leads to.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        first(&self.0, value)
    }
}

fn first<'v>(steps: &[Step], value: &'v Value) -> Option<&'v Value> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(value);
    };
    match step {
        Step::Field(name) => first(rest, value.get(name)?),
        Step::Index(place) => {
            let list = value.as_array()?;
            first(rest, list.get(resolve(*place, list.len()))?)
        }
        Step::Slice(from, to) => {
            let list = value.as_array()?;
            let from = from.map_or(0, |from| resolve(from, list.len()));
            let to = to
                .map_or(list.len(), |to| resolve(to, list.len()))
                .min(list.len());
            list.get(from..to)?
                .iter()
                .find_map(|item| first(rest, item))
        }
        Step::All => match value {
            Value::Array(list) => list.iter().find_map(|item| first(rest, item)),
            Value::Object(fields) => fields.values().find_map(|field| first(rest, field)),
            _ => None,
        },
        Step::Filter(filter) => {
            let list = value.as_array()?;
            list.iter()
                .filter(|item| filter.accepts(item))
                .find_map(|item| first(rest, item))
        }
    }
}

/// A place counted from the end if it is negative.
fn resolve(place: i64, length: usize) -> usize {
    let counted = if place < 0 {
        place.saturating_add_unsigned(length as u64)
    } else {
        place
    };
    usize::try_from(counted).unwrap_or(usize::MAX)
}

impl Filter {
    fn accepts(&self, item: &Value) -> bool {
        let Some(left) = first(&self.left, item) else {
            return false;
        };
        let Some((comparison, right)) = &self.test else {
            return true;
        };
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(std::cmp::Ordering::Equal),
            _ => None,
        };
        match comparison {
            Comparison::Equal => order.is_some_and(|order| order.is_eq()),
            Comparison::Unequal => order.is_none_or(|order| order.is_ne()),
            Comparison::Less => order.is_some_and(|order| order.is_lt()),
            Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
            Comparison::Greater => order.is_some_and(|order| order.is_gt()),
            Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> PathError {
        PathError(format!("the JSON path {:?} {what}", self.whole))
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Result<(), PathError> {
        if self.eat(text) {
            Ok(())
        } else {
            Err(self.error(&format!("lacks a {text:?}")))
        }
    }

    /// Reads steps until the end or until `stop` holds for the rest.
    fn steps(&mut self, stop: impl Fn(&str) -> bool) -> Result<Vec<Step>, PathError> {
        let mut steps = Vec::new();
        while !self.rest.is_empty() && !stop(self.rest) {
            if steps.len() == MAX_STEPS {
                return Err(self.error("has too many steps"));
            }
            if self.eat("[") {
                steps.push(self.bracket()?);
                self.expect("]")?;
            } else if self.eat(".") {
                if self.eat("*") {
                    steps.push(Step::All);
                } else if !self.rest.starts_with('[') {
                    steps.push(Step::Field(self.name(&stop)?));
                }
            } else {
                return Err(self.error("lacks a \".\" before a name"));
            }
        }
        Ok(steps)
    }

    /// Reads a name; a backslash lets it contain anything.
    fn name(&mut self, stop: impl Fn(&str) -> bool) -> Result<String, PathError> {
        let mut name = String::new();
        let mut chars = self.rest.chars();
        loop {
            let left = chars.as_str();
            match chars.next() {
                Some('\\') => name.extend(chars.next()),
                Some(c) if !matches!(c, '.' | '[' | ']') && !stop(left) => name.push(c),
                _ => {
                    self.rest = left;
                    break;
                }
            }
        }
        if name.is_empty() {
            Err(self.error("has an empty name"))
        } else {
            Ok(name)
        }
    }

    fn bracket(&mut self) -> Result<Step, PathError> {
        if self.eat("*") {
            return Ok(Step::All);
        }
        if self.eat("?(") {
            let filter = self.filter()?;
            self.expect(")")?;
            return Ok(Step::Filter(filter));
        }
        if let Some(text) = self.quoted()? {
            return Ok(Step::Field(text));
        }
        let end = self
            .rest
            .find(']')
            .ok_or_else(|| self.error("lacks a \"]\""))?;
        let (inside, rest) = self.rest.split_at(end);
        self.rest = rest;
        let number = |text: &str| match text.trim() {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| self.error("has no number in brackets")),
        };
        match inside.split_once(':') {
            Some((from, to)) => Ok(Step::Slice(number(from)?, number(to)?)),
            None => number(inside)?
                .map(Step::Index)
                .ok_or_else(|| self.error("has no number in brackets")),
        }
    }

    fn quoted(&mut self) -> Result<Option<String>, PathError> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let inside = &self.rest[1..];
        let end = inside
            .find(quote)
            .ok_or_else(|| self.error("has an unterminated text"))?;
        self.rest = &inside[end + 1..];
        Ok(Some(inside[..end].to_owned()))
    }

    fn filter(&mut self) -> Result<Filter, PathError> {
        self.rest = self.rest.trim_start();
        self.expect("@")?;
        let left = self.steps(|rest| rest.starts_with(['=', '!', '<', '>', ')', ' ']))?;
        self.rest = self.rest.trim_start();
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let Some((_, comparison)) = comparisons.into_iter().find(|(text, _)| self.eat(text)) else {
            return Ok(Filter { left, test: None });
        };
        self.rest = self.rest.trim_start();
        let right = match self.quoted()? {
            Some(text) => Value::String(text),
            None => {
                let end = self.rest.find(')').unwrap_or(self.rest.len());
                let (literal, rest) = self.rest.split_at(end);
                self.rest = rest;
                serde_json::from_str(literal.trim())
                    .map_err(|_| self.error("compares with something that is no literal"))?
            }
        };
        self.rest = self.rest.trim_start();
        Ok(Filter {
            left,
            test: Some((comparison, right)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "x"}},
            "spec": {"n": 3, "list": [1, 2, 3], "a-b": true},
            "status": {"conditions": [
                {"type": "Scheduled", "status": "True", "weight": 1},
                {"type": "Ready", "status": "False", "weight": 5},
            ]},
        });
        let cases = [
            (".spec.n", json!(3)),
            ("{.spec.n}", json!(3)),
            ("$.spec.n", json!(3)),
            (".spec.a-b", json!(true)),
            (".spec.list[0]", json!(1)),
            (".spec.list[-1]", json!(3)),
            (".spec.list[*]", json!(1)),
            (".spec.list[1:2]", json!(2)),
            (".spec['n']", json!(3)),
            (".metadata.labels.app\\.kubernetes\\.io/name", json!("x")),
            (".metadata.labels['app.kubernetes.io/name']", json!("x")),
            (
                ".status.conditions[?(@.type==\"Ready\")].status",
                json!("False"),
            ),
            (
                ".status.conditions[?(@.type == 'Ready')].status",
                json!("False"),
            ),
            (
                ".status.conditions[?(@.type!='Scheduled')].type",
                json!("Ready"),
            ),
            (".status.conditions[?(@.weight>1)].type", json!("Ready")),
            (
                ".status.conditions[?(@.weight<=1)].type",
                json!("Scheduled"),
            ),
            (".status.conditions[?(@.type)].type", json!("Scheduled")),
        ];
        for (path, expected) in cases {
            assert_eq!(
                JsonPath::parse(path).unwrap().first(&object),
                Some(&expected),
                "{path}"
            );
        }
        for path in [
            ".spec.x",
            ".spec.list[9]",
            ".spec.list[-9]",
            ".spec.n[0]",
            ".spec.list[2:1]",
        ] {
            assert_eq!(
                JsonPath::parse(path).unwrap().first(&object),
                None,
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "spec",
            ".spec.",
            ".a[",
            ".a[x]",
            ".a['b]",
            ".a[?(@.b==)]",
            ".a[?(b)]",
            ".a..b",
        ] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
        assert!(JsonPath::parse(&".a".repeat(100)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_crashes_the_reader(text in "[.a\\[\\]'\"?(@=<>!)*:0-9 \\\\{}$é-]{0,24}") {
            if let Ok(path) = JsonPath::parse(&text) {
                let _ = path.first(&json!({"a": [{"a": 1}]}));
            }
        }
    }
}
