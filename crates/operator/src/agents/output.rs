//! Output in bounded memory: the beginning and the end are kept, the middle gives way.

use std::collections::VecDeque;

/// What is kept of one output stream.
#[derive(Debug)]
pub(crate) struct Kept {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

/// Output as it is written into a status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// The kept bytes, where they are not text.
    pub(crate) bytes: Option<Vec<u8>>,
    /// How many bytes are left out.
    pub(crate) omitted: u64,
}

impl Kept {
    /// Keeps at most so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            half: limit.div_ceil(2),
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
        }
    }

    /// How many bytes have come so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// More output has come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = (self.half - self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(self.half)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(self.half);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// So many bytes came and are not to be had any more.
    pub(crate) fn miss(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// The output as text that takes at most so many bytes in JSON, where a control character
    /// takes six.
    pub(crate) fn text(&self, budget: usize) -> Text {
        let (head, tail) = self.cut(budget);
        let omitted = self.total - (head.len() + tail.len()) as u64;
        let mut bytes = head.to_vec();
        let mut text = lossy(head, omitted > 0, false);
        if omitted > 0 {
            text += &format!("\n[... {omitted} bytes left out ...]\n");
        }
        text += &lossy(&tail, false, omitted > 0);
        bytes.extend(&tail);
        let is_text = !text.contains('\u{fffd}') || std::str::from_utf8(&bytes).is_ok();
        Text {
            text,
            bytes: (!is_text).then_some(bytes),
            omitted,
        }
    }

    fn cut(&self, budget: usize) -> (&[u8], Vec<u8>) {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        let whole = self.total == (self.head.len() + tail.len()) as u64;
        if whole && cost(&self.head) + cost(&tail) <= budget {
            return (&self.head, tail);
        }
        if whole {
            // Cut out the middle of what is still one piece.
            let all: Vec<u8> = self.head.iter().chain(&tail).copied().collect();
            let (front, back) = (prefix(&all, budget / 2), suffix(&all, budget / 2));
            let front = front.min(self.head.len());
            let back = back.min(all.len() - front);
            return (&self.head[..front], all[all.len() - back..].to_vec());
        }
        let front = prefix(&self.head, budget / 2);
        let back = suffix(&tail, budget / 2);
        (&self.head[..front], tail[tail.len() - back..].to_vec())
    }
}

/// What a byte takes in a JSON string. A byte that is no text becomes a three-byte mark.
fn weight(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0x00..0x20 | 0x7f => 6,
        0x20..0x7f => 1,
        0x80.. => 3,
    }
}

fn cost(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| weight(*byte)).sum()
}

fn prefix(bytes: &[u8], budget: usize) -> usize {
    fitting(bytes.iter(), budget)
}

fn suffix(bytes: &[u8], budget: usize) -> usize {
    fitting(bytes.iter().rev(), budget)
}

fn fitting<'a>(bytes: impl Iterator<Item = &'a u8>, budget: usize) -> usize {
    let costs = bytes.scan(0, |sum, byte| {
        *sum += weight(*byte);
        Some(*sum)
    });
    costs.take_while(|sum| *sum <= budget).count()
}

/// Bytes as text. A character that a cut has split is dropped rather than shown as damage.
fn lossy(bytes: &[u8], cut_at_end: bool, cut_at_start: bool) -> String {
    let mut bytes = bytes;
    if cut_at_start {
        let split = bytes
            .iter()
            .take(3)
            .take_while(|byte| **byte & 0xc0 == 0x80)
            .count();
        bytes = &bytes[split..];
    }
    if cut_at_end
        && let Err(error) = std::str::from_utf8(bytes)
        && error.error_len().is_none()
    {
        bytes = &bytes[..error.valid_up_to()];
    }
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(limit: usize, chunks: &[&[u8]]) -> Kept {
        let mut kept = Kept::new(limit);
        chunks.iter().for_each(|chunk| kept.push(chunk));
        kept
    }

    #[test]
    fn short_output_is_kept_whole() {
        let text = kept(100, &[b"Hello ", b"from ARL!\n"]).text(1_000);
        assert_eq!(text.text, "Hello from ARL!\n");
        assert_eq!((text.omitted, text.bytes), (0, None));
    }

    #[test]
    fn of_long_output_the_beginning_and_the_end_are_kept_and_the_gap_is_named() {
        let mut kept = Kept::new(8);
        for _ in 0..1_000 {
            kept.push(b"0123456789");
        }
        let text = kept.text(1_000);
        assert_eq!(text.text, "0123\n[... 9992 bytes left out ...]\n6789");
        assert_eq!(text.omitted, 9_992);
    }

    #[test]
    fn memory_stays_bounded_whatever_comes() {
        let mut kept = Kept::new(1_000);
        kept.push(&vec![b'x'; 100_000]);
        kept.push(&vec![b'y'; 100_000]);
        assert!(kept.head.len() + kept.tail.len() <= 1_000);
        assert_eq!(kept.total(), 200_000);
    }

    #[test]
    fn control_characters_count_for_what_they_take_in_json() {
        let text = kept(10_000, &[&[0; 5_000]]).text(1_200);
        let json = serde_json::to_string(&text.text).unwrap();
        assert!(json.len() <= 1_200 + 100, "{}", json.len());
        assert!(text.omitted > 0);
    }

    #[test]
    fn a_cut_does_not_split_a_character() {
        let kept = kept(9, &["ääääääääääää".as_bytes()]);
        let text = kept.text(1_000);
        assert!(!text.text.contains('\u{fffd}'), "{}", text.text);
    }

    #[test]
    fn bytes_that_are_no_text_are_handed_over_as_they_were() {
        let text = kept(100, &[&[0xff, 0xfe, b'a']]).text(1_000);
        assert_eq!(text.bytes, Some(vec![0xff, 0xfe, b'a']));
    }
}
