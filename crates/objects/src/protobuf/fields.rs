//! The table of fields: which number of which message is which JSON field.
//!
//! `fields.txt` has a line `kind VERSION KIND MESSAGE` for each kind, and for each message a
//! line `message NAME` and below it a line `NUMBER NAME TYPE` for each field. After the type
//! stands `*` for a list, `%` for a map, and `?` if a zero means that the field is absent.
//! The name `~` says that the fields of the type stand in the message itself.

use std::{collections::HashMap, sync::LazyLock};

const TEXT: &str = include_str!("fields.txt");

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bytes,
    Int,
    Bool,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON text inside a message.
    RawJson,
    /// A message that is a list of texts.
    Strings,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    Message(&'static str),
}

/// How values stand in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// One value.
    One,
    /// One value, which is absent if it is zero.
    OneUnlessZero,
    /// One message whose fields stand in this one.
    Inline,
    List,
    Map,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) count: Count,
}

/// The fields of a message by number.
pub(super) type Message = HashMap<u64, Field>;

#[derive(Default)]
pub(super) struct Table {
    kinds: HashMap<(&'static str, &'static str), &'static str>,
    messages: HashMap<&'static str, Message>,
}

/// The table, read when it is first needed.
pub(super) fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(TEXT));
    &TABLE
}

impl Table {
    /// The message of a kind.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let name = self
            .kinds
            .get(&(api_version, kind))
            .or_else(|| self.kinds.get(&("*", kind)))?;
        self.messages.get(name)
    }

    pub(super) fn message(&self, name: &str) -> Option<&Message> {
        self.messages.get(name)
    }

    fn read(text: &'static str) -> Self {
        let mut table = Self::default();
        let mut message = "";
        for line in text.lines() {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words.as_slice() {
                ["kind", version, kind, message] => {
                    table.kinds.insert((version, kind), message);
                }
                ["message", name] => {
                    message = name;
                    table.messages.entry(message).or_default();
                }
                [number, name, shape] => {
                    if let Ok(number) = number.parse() {
                        let field = Field::read(name, shape);
                        table
                            .messages
                            .entry(message)
                            .or_default()
                            .insert(number, field);
                    }
                }
                _ => {}
            }
        }
        table
    }
}

impl Field {
    fn read(name: &'static str, shape: &'static str) -> Self {
        let (plain, count) = if let Some(plain) = shape.strip_suffix('*') {
            (plain, Count::List)
        } else if let Some(plain) = shape.strip_suffix('%') {
            (plain, Count::Map)
        } else if let Some(plain) = shape.strip_suffix('?') {
            (plain, Count::OneUnlessZero)
        } else if name == "~" {
            (shape, Count::Inline)
        } else {
            (shape, Count::One)
        };
        let kind = match plain {
            "string" => Kind::String,
            "bytes" => Kind::Bytes,
            "int" => Kind::Int,
            "bool" => Kind::Bool,
            "double" => Kind::Double,
            "time" => Kind::Time,
            "micro-time" => Kind::MicroTime,
            "quantity" => Kind::Quantity,
            "int-or-string" => Kind::IntOrString,
            "raw-json" => Kind::RawJson,
            "strings" => Kind::Strings,
            "schema-or-array" => Kind::SchemaOrArray,
            "schema-or-bool" => Kind::SchemaOrBool,
            "schema-or-strings" => Kind::SchemaOrStrings,
            message => Kind::Message(message),
        };
        Self { name, kind, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood_and_every_message_is_there() {
        let lines = TEXT.lines().filter(|line| !line.starts_with('#'));
        let fields = lines
            .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
            .count();
        let table = table();
        assert_eq!(
            table.messages.values().map(Message::len).sum::<usize>(),
            fields
        );
        assert!(fields > 1_000);
        for (kind, message) in &table.kinds {
            assert!(table.messages.contains_key(message), "{kind:?}");
        }
        for (message, fields) in &table.messages {
            for field in fields.values() {
                if let Kind::Message(name) = field.kind {
                    assert!(table.messages.contains_key(name), "{message}: {field:?}");
                }
            }
        }
    }

    #[test]
    fn the_json_names_are_those_of_the_built_in_types() {
        let types = crate::builtin::types();
        for (message, json) in [
            ("core/v1.PodSpec", "io.k8s.api.core.v1.PodSpec"),
            ("core/v1.Volume", "io.k8s.api.core.v1.Volume"),
            ("core/v1.Container", "io.k8s.api.core.v1.Container"),
            ("core/v1.ServiceSpec", "io.k8s.api.core.v1.ServiceSpec"),
            (
                "meta/v1.ObjectMeta",
                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            ),
        ] {
            let Some(schema) = types.get(json) else {
                continue;
            };
            let mut open = vec![message];
            while let Some(message) = open.pop() {
                for field in table().message(message).unwrap().values() {
                    match (field.count, field.kind) {
                        (Count::Inline, Kind::Message(inner)) => open.push(inner),
                        _ => assert!(
                            schema.properties.contains_key(field.name),
                            "{message} has {}, which {json} has not",
                            field.name
                        ),
                    }
                }
            }
        }
    }
}
