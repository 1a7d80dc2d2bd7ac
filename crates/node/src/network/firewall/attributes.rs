//! The attributes of the kernel's messages: length, kind, content, filled up to four bytes.
//! Numbers in them are big-endian.

const NESTED: u16 = 0x8000;

/// The attributes of a message, being written.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl<'a> Attributes<'a> {
    /// Attributes after what is there already.
    pub(super) fn of(bytes: &'a mut Vec<u8>) -> Self {
        Attributes(bytes)
    }

    pub(super) fn bytes(&mut self, kind: u16, content: &[u8]) {
        self.framed(kind, |bytes| bytes.extend_from_slice(content));
    }

    pub(super) fn number(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) {
        self.framed(kind, |bytes| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        });
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.framed(kind | NESTED, |bytes| fill(&mut Attributes(bytes)));
    }

    fn framed(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self.0);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_framed_and_filled_up_to_four_bytes() {
        let mut bytes = Vec::new();
        Attributes(&mut bytes).text(1, "ab");
        let mut expected = vec![7, 0, 1, 0, b'a', b'b', 0, 0];
        assert_eq!(bytes, expected);
        Attributes(&mut bytes).nested(2, |inner| inner.number(3, 5));
        expected.extend([12, 0, 2, 0x80, 8, 0, 3, 0, 0, 0, 0, 5]);
        assert_eq!(bytes, expected);
    }
}
