//! The second edition in the binary form that Go clients ask for: the shapes of all kinds.
//!
//! What the document says of paths is left out: those who read this form look for shapes.
//! The field numbers are those of gnostic's `openapi.v2` messages.

use serde_json::Value;

/// A message of Protocol Buffers as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &Value) {
        if let Some(text) = text.as_str() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, texts: &Value) {
        for text in texts.as_array().into_iter().flatten() {
            self.text(field, text);
        }
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }

    fn number(&mut self, field: u64, number: &Value) {
        if let Some(number) = number.as_u64() {
            self.varint(field << 3);
            self.varint(number);
        }
    }

    fn double(&mut self, field: u64, number: &Value) {
        if let Some(number) = number.as_f64() {
            self.varint(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn flag(&mut self, field: u64, flag: &Value) {
        if let Some(flag) = flag.as_bool() {
            self.varint(field << 3);
            self.varint(u64::from(flag));
        }
    }
}

/// The binary form of a document of the second edition.
pub fn binary(document: &Value) -> Vec<u8> {
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    let mut whole = Message::default();
    whole.text(1, &document["swagger"]);
    whole.message(2, &info);
    whole.message(9, &named_schemas(&document["definitions"]));
    whole.0
}

/// `Definitions` and `Properties` are written alike.
fn named_schemas(schemas: &Value) -> Message {
    let mut all = Message::default();
    for (name, of) in schemas.as_object().into_iter().flatten() {
        let mut named = Message::default();
        named.bytes(1, name.as_bytes());
        named.message(2, &schema(of));
        all.message(1, &named);
    }
    all
}

fn schema(of: &Value) -> Message {
    let mut out = Message::default();
    for (key, value) in of.as_object().into_iter().flatten() {
        match key.as_str() {
            "$ref" => out.text(1, value),
            "format" => out.text(2, value),
            "title" => out.text(3, value),
            "description" => out.text(4, value),
            "default" => out.message(5, &any(value)),
            "multipleOf" => out.double(6, value),
            "maximum" => out.double(7, value),
            "exclusiveMaximum" => out.flag(8, value),
            "minimum" => out.double(9, value),
            "exclusiveMinimum" => out.flag(10, value),
            "maxLength" => out.number(11, value),
            "minLength" => out.number(12, value),
            "pattern" => out.text(13, value),
            "maxItems" => out.number(14, value),
            "minItems" => out.number(15, value),
            "uniqueItems" => out.flag(16, value),
            "maxProperties" => out.number(17, value),
            "minProperties" => out.number(18, value),
            "required" => out.texts(19, value),
            "enum" => {
                let values = value.as_array().into_iter().flatten();
                values.for_each(|value| out.message(20, &any(value)));
            }
            "additionalProperties" => out.message(21, &additional(value)),
            "type" => {
                let mut kind = Message::default();
                kind.text(1, value);
                out.message(22, &kind);
            }
            "items" => {
                let mut items = Message::default();
                items.message(1, &schema(value));
                out.message(23, &items);
            }
            "allOf" => {
                let all = value.as_array().into_iter().flatten();
                all.for_each(|one| out.message(24, &schema(one)));
            }
            "properties" => out.message(25, &named_schemas(value)),
            extension if extension.starts_with("x-") => {
                let mut named = Message::default();
                named.bytes(1, extension.as_bytes());
                named.message(2, &any(value));
                out.message(31, &named);
            }
            _ => {}
        }
    }
    out
}

fn additional(of: &Value) -> Message {
    let mut out = Message::default();
    match of {
        Value::Bool(_) => out.flag(2, of),
        of => out.message(1, &schema(of)),
    }
    out
}

/// Any value is carried as YAML, and JSON is YAML.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.bytes(2, value.to_string().as_bytes());
    out
}
