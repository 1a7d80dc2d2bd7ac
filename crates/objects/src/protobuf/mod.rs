//! The protobuf form of built-in kinds, as clients send it; answers are JSON.
//!
//! A body is the four bytes `k8s\0` and an envelope that names the kind and holds the
//! message. Decoding yields what a client that speaks JSON would have sent: one table, made
//! from the published Go types, tells the JSON name of each field and whether a zero in it
//! means that it is absent.

mod fields;
mod object;
mod wire;

use serde_json::Value;

use self::{
    object::Decoder,
    wire::{Reader, Wire},
};

/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It does not start as it must: 400 `BadRequest`.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    /// It is of a kind that has no protobuf form here: 400 `BadRequest`.
    #[error("no kind {kind:?} is registered for version {api_version:?} in protobuf; send JSON")]
    UnknownKind {
        /// The version that the body names.
        api_version: String,
        /// The kind that the body names.
        kind: String,
    },
    /// Its bytes are no message: 400 `BadRequest`.
    #[error("cannot decode protobuf: {0}")]
    Malformed(String),
    /// It nests too deeply, or it would unfold into too much: 413 `RequestEntityTooLarge`.
    #[error("the protobuf message is too large: {0}")]
    TooLarge(&'static str),
}

impl DecodeError {
    /// The HTTP status that goes with the error.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            _ => 400,
        }
    }

    fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}

/// Reads a body into the JSON of its object.
pub fn decode(body: &[u8]) -> Result<Value, DecodeError> {
    let envelope = Envelope::read(body.strip_prefix(MAGIC).ok_or(DecodeError::NoMagic)?)?;
    let message = fields::table()
        .kind(&envelope.api_version, &envelope.kind)
        .ok_or_else(|| DecodeError::UnknownKind {
            api_version: envelope.api_version.clone(),
            kind: envelope.kind.clone(),
        })?;
    let mut object = Decoder::default().message(message, envelope.raw)?;
    object.insert("apiVersion".into(), envelope.api_version.into());
    object.insert("kind".into(), envelope.kind.into());
    Ok(Value::Object(object))
}

/// The outer message of a body.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut envelope = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, value)) = reader.next()? {
            match (number, value) {
                (1, Wire::Bytes(type_meta)) => {
                    let mut reader = Reader::new(type_meta);
                    while let Some((number, value)) = reader.next()? {
                        match number {
                            1 => envelope.api_version = value.text()?.to_owned(),
                            2 => envelope.kind = value.text()?.to_owned(),
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                    return Err(DecodeError::malformed("the message has a content encoding"));
                }
                _ => {}
            }
        }
        Ok(envelope)
    }
}
