//! From messages to JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::{
    DecodeError,
    fields::{Count, Field, Kind, Message, table},
    wire::{Reader, Wire},
};

/// How deep messages may stand inside one another.
const MAX_DEPTH: usize = 100;

/// How many values a body may unfold into. An empty message takes two bytes on the wire and
/// fifty times that in memory.
const MAX_VALUES: usize = 250_000;

/// The message of a schema, which three special forms hold.
const SCHEMA: Kind = Kind::Message("apiextensions/v1.JSONSchemaProps");

/// Decodes one body, and keeps count of what it costs.
pub(super) struct Decoder {
    depth: usize,
    values: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            depth: MAX_DEPTH,
            values: MAX_VALUES,
        }
    }
}

impl Decoder {
    /// The JSON object of a message.
    pub(super) fn message(
        &mut self,
        message: &Message,
        bytes: &[u8],
    ) -> Result<Map<String, Value>, DecodeError> {
        let mut object = Map::new();
        self.message_into(message, bytes, &mut object)?;
        Ok(object)
    }

    fn message_into(
        &mut self,
        message: &Message,
        bytes: &[u8],
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or(DecodeError::TooLarge("it nests too deeply"))?;
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            if let Some(field) = message.get(&number) {
                self.field(field, wire, object)?;
            }
        }
        self.depth += 1;
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        self.values = self
            .values
            .checked_sub(1)
            .ok_or(DecodeError::TooLarge("it has too many values"))?;
        match field.count {
            Count::Inline => {
                if let Kind::Message(name) = field.kind
                    && let Some(inner) = table().message(name)
                {
                    self.message_into(inner, wire.bytes()?, object)?;
                }
            }
            Count::One | Count::OneUnlessZero => {
                let value = self.value(field.kind, wire)?;
                let absent = field.count == Count::OneUnlessZero;
                if let Some(value) = value.filter(|value| !(absent && is_zero(value))) {
                    object.insert(field.name.to_owned(), value);
                }
            }
            Count::List => {
                let list = object
                    .entry(field.name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(list) = list else {
                    return Ok(());
                };
                match (field.kind, wire) {
                    (Kind::Int, Wire::Bytes(packed)) => self.packed(packed, list)?,
                    (kind, wire) => list.extend(self.value(kind, wire)?),
                }
            }
            Count::Map => {
                let (key, value) = self.entry(field.kind, wire.bytes()?)?;
                let map = object
                    .entry(field.name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let (Value::Object(map), Some(value)) = (map, value) {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    fn packed(&mut self, bytes: &[u8], list: &mut Vec<Value>) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        while let Some(number) = reader.next_packed()? {
            self.values = self
                .values
                .checked_sub(1)
                .ok_or(DecodeError::TooLarge("it has too many values"))?;
            list.push(number.into());
        }
        Ok(())
    }

    /// An entry of a map: a message with the key at 1 and the value at 2. Zeros may be left
    /// out of it.
    fn entry(&mut self, kind: Kind, bytes: &[u8]) -> Result<(String, Option<Value>), DecodeError> {
        let mut key = String::new();
        let mut value = None;
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match number {
                1 => key = wire.text()?.to_owned(),
                2 => value = Some(wire),
                _ => {}
            }
        }
        let value = self.value(kind, value.unwrap_or(Wire::Bytes(&[])))?;
        Ok((key, value))
    }

    /// A value. None stands for one that JSON clients leave out or send as null.
    fn value(&mut self, kind: Kind, wire: Wire<'_>) -> Result<Option<Value>, DecodeError> {
        Ok(Some(match kind {
            Kind::String => wire.text()?.into(),
            Kind::Bytes => STANDARD.encode(wire.bytes()?).into(),
            Kind::Int => wire.int()?.into(),
            Kind::Bool => (wire.int()? != 0).into(),
            Kind::Double => number(wire.double()?)?,
            Kind::Time => return time(wire, "%Y-%m-%dT%H:%M:%SZ"),
            Kind::MicroTime => return time(wire, "%Y-%m-%dT%H:%M:%S.%6fZ"),
            Kind::Quantity => first(wire, 1)?.map_or(Ok(""), Wire::text)?.into(),
            Kind::IntOrString => int_or_string(wire)?,
            Kind::RawJson => return raw_json(wire),
            Kind::Strings => self.all(Kind::String, wire, 1)?.into(),
            Kind::SchemaOrArray => {
                let schemas = self.all(SCHEMA, wire, 2)?;
                if !schemas.is_empty() {
                    return Ok(Some(schemas.into()));
                }
                return self.schema(wire, 1);
            }
            Kind::SchemaOrBool => match self.schema(wire, 2)? {
                Some(schema) => schema,
                None => (first(wire, 1)?.map_or(Ok(0), Wire::int)? != 0).into(),
            },
            Kind::SchemaOrStrings => match self.schema(wire, 1)? {
                Some(schema) => schema,
                None => self.all(Kind::String, wire, 2)?.into(),
            },
            Kind::Message(name) => {
                let Some(message) = table().message(name) else {
                    return Ok(None);
                };
                self.message(message, wire.bytes()?)?.into()
            }
        }))
    }

    /// All values of one field of a message.
    fn all(&mut self, kind: Kind, wire: Wire<'_>, field: u64) -> Result<Vec<Value>, DecodeError> {
        let mut values = Vec::new();
        let mut reader = Reader::new(wire.bytes()?);
        while let Some((number, wire)) = reader.next()? {
            if number == field {
                self.values = self
                    .values
                    .checked_sub(1)
                    .ok_or(DecodeError::TooLarge("it has too many values"))?;
                values.extend(self.value(kind, wire)?);
            }
        }
        Ok(values)
    }

    fn schema(&mut self, wire: Wire<'_>, field: u64) -> Result<Option<Value>, DecodeError> {
        match first(wire, field)? {
            Some(schema) => self.value(SCHEMA, schema),
            None => Ok(None),
        }
    }
}

/// The value of one field of a message.
fn first(wire: Wire<'_>, field: u64) -> Result<Option<Wire<'_>>, DecodeError> {
    let mut reader = Reader::new(wire.bytes()?);
    while let Some((number, wire)) = reader.next()? {
        if number == field {
            return Ok(Some(wire));
        }
    }
    Ok(None)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// A fraction as JSON writes it: whole ones without a point.
fn number(value: f64) -> Result<Value, DecodeError> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Ok((value as i64).into());
    }
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| DecodeError::malformed("a number that JSON cannot write"))
}

/// A point in time, a message of seconds and nanoseconds. The empty one is no time.
fn time(wire: Wire<'_>, format: &str) -> Result<Option<Value>, DecodeError> {
    let seconds = first(wire, 1)?.map_or(Ok(0), Wire::int)?;
    let nanos = first(wire, 2)?.map_or(Ok(0), Wire::int)?;
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    let out_of_range = || DecodeError::malformed("a time that no calendar has");
    let nanos = i32::try_from(nanos).map_err(|_| out_of_range())?;
    let time = Timestamp::new(seconds, nanos).map_err(|_| out_of_range())?;
    Ok(Some(time.strftime(format).to_string().into()))
}

fn int_or_string(wire: Wire<'_>) -> Result<Value, DecodeError> {
    const STRING: i64 = 1;
    let kind = first(wire, 1)?.map_or(Ok(0), Wire::int)?;
    if kind == STRING {
        Ok(first(wire, 3)?.map_or(Ok(""), Wire::text)?.into())
    } else {
        Ok(first(wire, 2)?.map_or(Ok(0), Wire::int)?.into())
    }
}

fn raw_json(wire: Wire<'_>) -> Result<Option<Value>, DecodeError> {
    match first(wire, 1)?.map_or(Ok(&[][..]), Wire::bytes)? {
        [] => Ok(None),
        raw => serde_json::from_slice(raw)
            .map(Some)
            .map_err(|error| DecodeError::malformed(format!("JSON inside the message: {error}"))),
    }
}
