//! Why an object is refused: one cause per field, in Kubernetes' words.

use std::fmt;

use serde_json::Value;

/// What kind of fault a [`Cause`] tells of; printed as `status.details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The value breaks a rule.
    Invalid,
    /// A value is missing.
    Required,
    /// The value is none of those allowed.
    NotSupported,
    /// The value stands twice where it may stand once.
    Duplicate,
    /// The value has the wrong type.
    TypeInvalid,
    /// The value is longer than allowed.
    TooLong,
    /// There are more values than allowed.
    TooMany,
    /// The field may not be set or changed here.
    Forbidden,
    /// The value refers to something that is not there.
    NotFound,
    /// The check itself failed.
    InternalError,
}

impl Reason {
    /// The reason as it stands in a `metav1.Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
            Self::InternalError => "InternalError",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One fault in one field.
///
/// It prints as `field: message`, which is how it stands in the text of a `Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field, as `spec.containers[0].name`; `<nil>` for the object itself.
    pub field: String,
    /// What kind of fault.
    pub reason: Reason,
    /// What is wrong, without the field: `Required value: must be set`.
    pub message: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Cause {
    /// The value breaks a rule.
    pub fn invalid(field: impl fmt::Display, value: &Value, detail: impl fmt::Display) -> Self {
        Self::with(
            field,
            Reason::Invalid,
            format!("Invalid value: {}", shown(value)),
            detail,
        )
    }

    /// The value has the wrong type.
    pub fn type_invalid(
        field: impl fmt::Display,
        value: &Value,
        detail: impl fmt::Display,
    ) -> Self {
        Self::with(
            field,
            Reason::TypeInvalid,
            format!("Invalid value: {}", shown(value)),
            detail,
        )
    }

    /// The value is missing.
    pub fn required(field: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self::with(field, Reason::Required, "Required value".into(), detail)
    }

    /// The field may not be set or changed here.
    pub fn forbidden(field: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self::with(field, Reason::Forbidden, "Forbidden".into(), detail)
    }

    /// The value stands twice.
    pub fn duplicate(field: impl fmt::Display, value: &Value) -> Self {
        Self::with(
            field,
            Reason::Duplicate,
            format!("Duplicate value: {}", shown(value)),
            "",
        )
    }

    /// The value refers to something that is not there.
    pub fn not_found(field: impl fmt::Display, value: &Value) -> Self {
        Self::with(
            field,
            Reason::NotFound,
            format!("Not found: {}", shown(value)),
            "",
        )
    }

    /// The value is none of those allowed.
    pub fn not_supported<S: AsRef<str>>(
        field: impl fmt::Display,
        value: &Value,
        allowed: &[S],
    ) -> Self {
        let detail = if allowed.is_empty() {
            String::new()
        } else {
            let list: Vec<String> = allowed.iter().map(|one| quoted(one.as_ref())).collect();
            format!("supported values: {}", list.join(", "))
        };
        Self::with(
            field,
            Reason::NotSupported,
            format!("Unsupported value: {}", shown(value)),
            detail,
        )
    }

    /// The value is longer than `most` bytes.
    pub fn too_long(field: impl fmt::Display, most: u64) -> Self {
        let unit = if most == 1 { "byte" } else { "bytes" };
        Self::with(
            field,
            Reason::TooLong,
            "Too long".into(),
            format!("may not be more than {most} {unit}"),
        )
    }

    /// There are more than `most` values.
    pub fn too_many(field: impl fmt::Display, actual: usize, most: u64) -> Self {
        let unit = if most == 1 { "item" } else { "items" };
        Self::with(
            field,
            Reason::TooMany,
            format!("Too many: {actual}"),
            format!("must have at most {most} {unit}"),
        )
    }

    /// The check itself failed.
    pub fn internal(field: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self::with(
            field,
            Reason::InternalError,
            "Internal error".into(),
            detail,
        )
    }

    fn with(
        field: impl fmt::Display,
        reason: Reason,
        body: String,
        detail: impl fmt::Display,
    ) -> Self {
        let field = match field.to_string() {
            empty if empty.is_empty() => "<nil>".to_owned(),
            field => field,
        };
        let detail = detail.to_string();
        let message = if detail.is_empty() {
            body
        } else {
            format!("{body}: {detail}")
        };
        Self {
            field,
            reason,
            message,
        }
    }
}

/// The causes as the text of one error: a single cause stands bare, several stand in brackets.
pub fn summary(causes: &[Cause]) -> String {
    let mut lines: Vec<String> = Vec::with_capacity(causes.len());
    for line in causes.iter().map(Cause::to_string) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    match lines.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// How a value looks inside a message. Long ones are cut: the client has the value already.
fn shown(value: &Value) -> String {
    const MOST: usize = 1024;
    let mut text = match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    };
    if text.len() > MOST {
        let mut end = MOST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// A string in double quotes, escaped as Go prints it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn causes_read_as_kubernetes_writes_them() {
        let cases = [
            (
                Cause::required("spec.image", ""),
                "spec.image: Required value",
            ),
            (
                Cause::required("spec.image", "must be set"),
                "spec.image: Required value: must be set",
            ),
            (
                Cause::invalid("spec.size", &json!(-1), "must be positive"),
                "spec.size: Invalid value: -1: must be positive",
            ),
            (
                Cause::not_supported("spec.mode", &json!("x"), &["A", "B"]),
                r#"spec.mode: Unsupported value: "x": supported values: "A", "B""#,
            ),
            (
                Cause::duplicate("spec.l[1]", &json!("a")),
                r#"spec.l[1]: Duplicate value: "a""#,
            ),
            (
                Cause::too_long("spec.s", 3),
                "spec.s: Too long: may not be more than 3 bytes",
            ),
            (
                Cause::too_many("spec.l", 5, 3),
                "spec.l: Too many: 5: must have at most 3 items",
            ),
            (
                Cause::forbidden("spec", "immutable"),
                "spec: Forbidden: immutable",
            ),
            (
                Cause::invalid("", &json!({}), "no"),
                "<nil>: Invalid value: {}: no",
            ),
        ];
        for (cause, text) in cases {
            assert_eq!(cause.to_string(), text);
        }
    }

    #[test]
    fn several_causes_stand_in_brackets_once_each() {
        let one = Cause::required("a", "");
        let two = Cause::required("b", "");
        assert_eq!(summary(std::slice::from_ref(&one)), "a: Required value");
        assert_eq!(
            summary(&[one.clone(), two, one]),
            "[a: Required value, b: Required value]"
        );
    }

    #[test]
    fn a_huge_value_is_cut_in_the_message() {
        let cause = Cause::invalid("a", &json!("é".repeat(1 << 20)), "no");
        assert!(cause.message.len() < 2048);
    }
}
