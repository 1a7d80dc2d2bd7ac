//! What a case says, and whether an answer is what it says.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One request and the answer to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// A sentence that is true of the server.
    pub(crate) name: String,
    /// Requests that come first and must succeed: `METHOD path: body`.
    #[serde(default)]
    pub(crate) given: Vec<Map<String, Value>>,
    /// The request: `METHOD path`.
    pub(crate) when: String,
    /// Its body, if it is an object.
    #[serde(default)]
    pub(crate) body: Option<Value>,
    /// Its body, if it is bytes; `{zeros:N}` stands for so many zeros.
    #[serde(default)]
    pub(crate) raw: Option<String>,
    /// More headers.
    #[serde(default)]
    pub(crate) headers: Map<String, Value>,
    /// The answer.
    pub(crate) then: Answer,
}

/// What must be true of an answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// The HTTP code.
    pub(crate) code: u16,
    /// The reason of the Status.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// A part of the message of the Status.
    #[serde(default)]
    pub(crate) message: Option<String>,
    /// What the body must have; it may have more.
    #[serde(default)]
    pub(crate) body: Option<Value>,
    /// Paths that the body must not have.
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    /// What the Warning headers must contain, each in one of them.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    /// Parts of the body as text, in this order.
    #[serde(default)]
    pub(crate) text: Vec<String>,
}

/// Where an answer is not what the case says, in words.
pub(crate) fn differences(
    expected: &Answer,
    code: u16,
    warnings: &[String],
    body: &str,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if code != expected.code {
        wrong.push(format!("the code is {code}, not {}", expected.code));
    }
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    if let Some(reason) = &expected.reason
        && value["reason"].as_str().unwrap_or_default() != reason
    {
        wrong.push(format!("the reason is {}, not {reason:?}", value["reason"]));
    }
    if let Some(message) = &expected.message
        && !value["message"]
            .as_str()
            .unwrap_or_default()
            .contains(message)
    {
        wrong.push(format!(
            "the message is {}, without {message:?}",
            value["message"]
        ));
    }
    if let Some(part) = &expected.body {
        compare("", part, &value, &mut wrong);
    }
    for path in &expected.absent {
        if let Some(found) = at(&value, path) {
            wrong.push(format!("{path} is there: {found}"));
        }
    }
    for warning in &expected.warnings {
        if !warnings.iter().any(|one| one.contains(warning)) {
            wrong.push(format!("no warning says {warning:?}: {warnings:?}"));
        }
    }
    let mut rest = body;
    for part in &expected.text {
        match rest.find(part.as_str()) {
            Some(found) => rest = &rest[found + part.len()..],
            None => wrong.push(format!("{part:?} does not follow in the text")),
        }
    }
    wrong
}

/// Every field of `part` must be in `whole`; lists must match item by item.
fn compare(path: &str, part: &Value, whole: &Value, wrong: &mut Vec<String>) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (key, value) in part {
                match whole.get(key) {
                    Some(found) => compare(&format!("{path}.{key}"), value, found, wrong),
                    None => wrong.push(format!("{path}.{key} is missing")),
                }
            }
        }
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            for (index, (value, found)) in part.iter().zip(whole).enumerate() {
                compare(&format!("{path}[{index}]"), value, found, wrong);
            }
        }
        (Value::String(any), found) if any == "<any>" && !found.is_null() => {}
        _ if part == whole => {}
        _ => wrong.push(format!("{path} is {whole}, not {part}")),
    }
}

/// The value at a dotted path; numbers are places in a list.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}
