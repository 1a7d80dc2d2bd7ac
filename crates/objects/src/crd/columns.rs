//! The columns that `kubectl get` shows of a custom kind.

use serde_json::Value;

use super::text;

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// A format such as `int32` or `password`; may be empty.
    pub format: String,
    /// What the column tells; may be empty.
    pub description: String,
    /// 0 shows always, more only in wide output.
    pub priority: i32,
    /// Where the value is in the object.
    pub json_path: String,
}

impl Column {
    /// Reads `additionalPrinterColumns`; a kind that gives none shows the age.
    pub(super) fn parse_all(columns: &Value) -> Vec<Column> {
        let parse = |column: &Value| {
            Some(Column {
                name: text(column, "name")?,
                kind: text(column, "type")?,
                format: text(column, "format").unwrap_or_default(),
                description: text(column, "description").unwrap_or_default(),
                priority: column["priority"]
                    .as_i64()
                    .and_then(|n| i32::try_from(n).ok())
                    .unwrap_or(0),
                json_path: text(column, "jsonPath")?,
            })
        };
        match columns.as_array() {
            Some(columns) if !columns.is_empty() => columns.iter().filter_map(parse).collect(),
            _ => vec![Self::age()],
        }
    }

    fn age() -> Column {
        Column {
            name: "Age".into(),
            kind: "date".into(),
            format: String::new(),
            description: "CreationTimestamp is a timestamp representing the server time when this object was created. \
                          It is not guaranteed to be set in happens-before order across separate operations. \
                          Clients may not set this value. It is represented in RFC3339 form and is in UTC."
                .into(),
            priority: 0,
            json_path: ".metadata.creationTimestamp".into(),
        }
    }
}
