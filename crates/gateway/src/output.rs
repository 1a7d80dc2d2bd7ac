//! Output in bounded memory: its beginning and its end are kept, and what is left out is said.

use std::collections::VecDeque;

/// What is kept of one output stream.
#[derive(Debug)]
pub(crate) struct Output {
    head_limit: usize,
    tail_limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Output {
    /// Keeps at most so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            head_limit: limit / 2,
            tail_limit: limit / 2,
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
        }
    }

    /// More has come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = (self.head_limit - self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.tail_limit)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// So many bytes came and are not to be had any more.
    pub(crate) fn miss(&mut self, bytes: u64) {
        self.total += bytes;
        // They lie between what is kept of the beginning and what comes now.
        self.head_limit = self.head.len();
    }

    /// Whether something is left out.
    pub(crate) fn is_cut(&self) -> bool {
        self.total > (self.head.len() + self.tail.len()) as u64
    }

    /// As text that any database can keep.
    pub(crate) fn text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let text = if self.is_cut() {
            let kept = (self.head.len() + tail.len()) as u64;
            format!(
                "{}\n[... {} bytes left out ...]\n{}",
                String::from_utf8_lossy(&self.head),
                self.total - kept,
                String::from_utf8_lossy(&tail)
            )
        } else {
            String::from_utf8_lossy(&[&self.head[..], &tail].concat()).into_owned()
        };
        // PostgreSQL keeps no zero bytes.
        if text.contains('\0') {
            text.replace('\0', "\u{fffd}")
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_its_ends_and_says_what_is_missing() {
        let mut output = Output::new(8);
        output.push(b"abcdef");
        assert_eq!((output.text().as_str(), output.is_cut()), ("abcdef", false));
        output.push(b"ghijklmnop");
        assert_eq!(output.text(), "abcd\n[... 8 bytes left out ...]\nmnop");
        assert!(output.is_cut());
    }

    #[test]
    fn text_has_no_zero_bytes() {
        let mut output = Output::new(8);
        output.push(b"a\0b");
        assert_eq!(output.text(), "a\u{fffd}b");
    }
}
