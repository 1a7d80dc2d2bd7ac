//! Output that comes in pieces, as text: no piece ends in the middle of a character.

use bytes::{Bytes, BytesMut};

/// The beginning of a character whose end has not come yet.
#[derive(Default)]
pub(super) struct Carried(Bytes);

impl Carried {
    /// What can be told now that these bytes have come.
    pub(super) fn whole(&mut self, bytes: Bytes) -> Bytes {
        let carried = self.rest();
        let mut bytes = if carried.is_empty() {
            bytes
        } else {
            let mut joined = BytesMut::with_capacity(carried.len() + bytes.len());
            joined.extend_from_slice(&carried);
            joined.extend_from_slice(&bytes);
            joined.freeze()
        };
        self.0 = bytes.split_off(bytes.len() - unfinished(&bytes));
        bytes
    }

    /// What is still held back, once no more will come.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }
}

/// The bytes as text, and as they are where they are none.
pub(super) fn split(bytes: Bytes) -> (String, Bytes) {
    match String::from_utf8(bytes.into()) {
        Ok(text) => (text, Bytes::new()),
        Err(error) => (
            String::from_utf8_lossy(error.as_bytes()).into_owned(),
            error.into_bytes().into(),
        ),
    }
}

/// How many bytes at the end begin a character that is not complete.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let lead = tail
        .iter()
        .rev()
        .position(|byte| byte & 0b1100_0000 != 0b1000_0000);
    let Some(after) = lead else { return 0 };
    let wanted = match tail[tail.len() - 1 - after] {
        byte if byte & 0b1110_0000 == 0b1100_0000 => 2,
        byte if byte & 0b1111_0000 == 0b1110_0000 => 3,
        byte if byte & 0b1111_1000 == 0b1111_0000 => 4,
        _ => 1,
    };
    if after + 1 < wanted { after + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_held_back_only_while_its_end_may_come() {
        for (bytes, held) in [
            (&b"plain"[..], 0),
            ("ä".as_bytes(), 0),
            (b"x\xc3", 1),
            (b"x\xe2\x82", 2),
            (b"\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98\x80", 0),
            (b"\x80\x80\x80\x80", 0),
            (b"\xff", 0),
            (b"", 0),
        ] {
            assert_eq!(unfinished(bytes), held, "{bytes:?}");
        }
    }

    #[test]
    fn a_torn_character_comes_whole_with_the_next_piece() {
        let mut carried = Carried::default();
        let heard = |bytes: Bytes| String::from_utf8(bytes.into()).unwrap();
        assert_eq!(heard(carried.whole(Bytes::from_static(b"a\xc3"))), "a");
        assert_eq!(heard(carried.whole(Bytes::from_static(b"\xa4b"))), "äb");
        assert!(carried.rest().is_empty());
    }
}
