//! What a failed request was about, and each thing that was wrong.

use serde_json::{Map, Value};

/// One of several things wrong with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// What sort of thing is wrong, such as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong, for people; without the field.
    pub message: String,
    /// Where, such as `spec.replicas`; may be empty.
    pub field: String,
}

impl Cause {
    /// A cause about a field.
    pub fn new(reason: &str, field: impl Into<String>, message: impl Into<String>) -> Cause {
        Cause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.into(),
        }
    }

    /// A field has a value that it cannot have.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Cause {
        Cause::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {value}: {why}"),
        )
    }

    /// A field must have a value.
    pub fn required(field: impl Into<String>, why: &str) -> Cause {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Cause::new("FieldValueRequired", field, message)
    }

    /// A field may not be set.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Cause {
        Cause::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// A field must have one of a few values.
    pub fn not_supported(field: impl Into<String>, value: &str, supported: &[&str]) -> Cause {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        let message = format!("Unsupported value: {value:?}: supported values: {list}");
        Cause::new("FieldValueNotSupported", field, message)
    }
}

impl From<sandlot_objects::schema::Cause> for Cause {
    fn from(cause: sandlot_objects::schema::Cause) -> Cause {
        Cause::new(cause.reason.as_str(), cause.field, cause.message)
    }
}

/// What the failed request was about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The resource or, for invalid objects, the kind.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// Each thing wrong.
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; 0 is not said.
    pub retry_after: u32,
    /// How a list can go on all the same; may be empty.
    pub continue_token: String,
}

impl Details {
    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, text) in [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ] {
            if !text.is_empty() {
                map.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            map.insert(
                "causes".into(),
                self.causes.iter().map(cause_value).collect(),
            );
        }
        if self.retry_after > 0 {
            map.insert("retryAfterSeconds".into(), self.retry_after.into());
        }
        Value::Object(map)
    }
}

fn cause_value(cause: &Cause) -> Value {
    let mut map = Map::new();
    for (key, text) in [
        ("reason", &cause.reason),
        ("message", &cause.message),
        ("field", &cause.field),
    ] {
        if !text.is_empty() {
            map.insert(key.into(), text.as_str().into());
        }
    }
    Value::Object(map)
}

/// A cause with its field, as it stands in a message.
pub(super) fn in_one_line(cause: &Cause) -> String {
    match cause.field.as_str() {
        "" => cause.message.clone(),
        field => format!("{field}: {}", cause.message),
    }
}
