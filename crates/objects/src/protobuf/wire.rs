//! The wire format of protobuf: numbered values of four shapes.

use super::DecodeError;

/// A value as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    /// A whole number or a boolean.
    Varint(u64),
    /// Eight bytes, little end first.
    Fixed64(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four bytes, which no field here uses.
    Fixed32,
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(DecodeError::malformed("a number where bytes were expected")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?)
            .map_err(|_| DecodeError::malformed("a text that is not UTF-8"))
    }

    /// A signed number: negative ones are written as if they had 64 bits.
    pub(super) fn int(self) -> Result<i64, DecodeError> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            _ => Err(DecodeError::malformed(
                "no whole number where one was expected",
            )),
        }
    }

    pub(super) fn double(self) -> Result<f64, DecodeError> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(DecodeError::malformed("no fraction where one was expected")),
        }
    }
}

/// Reads the fields of a message one after another.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.array::<4>()?;
                Wire::Fixed32
            }
            other => {
                return Err(DecodeError::malformed(format!(
                    "wire type {other} is not used"
                )));
            }
        };
        Ok(Some((tag >> 3, value)))
    }

    /// The next number of a packed list; none at the end.
    pub(super) fn next_packed(&mut self) -> Result<Option<i64>, DecodeError> {
        if self.rest.is_empty() {
            Ok(None)
        } else {
            self.varint().map(|v| Some(v.cast_signed()))
        }
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for place in 0..10 {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::malformed("a number of more than ten bytes"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| DecodeError::malformed("the message ends in the middle of a value"))?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| DecodeError::malformed("the message ends in the middle of a value"))?;
        self.rest = rest;
        Ok(taken)
    }
}
