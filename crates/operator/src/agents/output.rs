//! Output in bounded memory: the beginning and the end are kept, the middle gives way.

use std::{borrow::Cow, collections::VecDeque};

/// What is kept of one output stream.
#[derive(Debug)]
pub(crate) struct Kept {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

/// How output is written into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As text, with a mark wherever it is none.
    Text,
    /// As text and, where it is none, as bytes too.
    TextAndBytes,
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

    /// How many bytes are kept.
    pub(crate) fn held(&self) -> usize {
        self.head.len() + self.tail.len()
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

    /// From now on keeps at most so many bytes, all else being over.
    pub(crate) fn shrink(&mut self, limit: usize) {
        if self.held() <= limit {
            return;
        }
        let has_gap = self.total != self.held() as u64;
        let all: Vec<u8> = self.head.iter().chain(&self.tail).copied().collect();
        let front = (limit / 2).min(self.head.len());
        let behind = if has_gap {
            self.tail.len()
        } else {
            all.len() - front
        };
        let back = (limit - front).min(behind);
        self.half = limit / 2;
        self.head = all[..front].to_vec();
        self.tail = all[all.len() - back..].iter().copied().collect();
    }

    /// How many bytes of JSON all that is kept would take.
    pub(crate) fn cost(&self, form: Form) -> usize {
        let (head, tail) = self.pieces();
        let extra = self.extra(form, &head, &tail);
        let weigh = |piece: &[u8]| weights(piece, extra).map(usize::from).sum::<usize>();
        weigh(&head) + weigh(&tail)
    }

    /// The output in so many bytes of JSON, where a control character takes six.
    pub(crate) fn text(&self, budget: usize, form: Form) -> Text {
        let (head, tail) = self.pieces();
        let extra = self.extra(form, &head, &tail);
        let (head, tail) = cut(&head, &tail, budget, extra);
        let omitted = self.total - (head.len() + tail.len()) as u64;
        let mut text = lossy(head, omitted > 0, false);
        if omitted > 0 {
            text += &format!("\n[... {omitted} bytes left out, see outputLog ...]\n");
        }
        text += &lossy(tail, false, omitted > 0);
        Text {
            text,
            bytes: (extra > 0).then(|| [head, tail].concat()),
            omitted,
        }
    }

    /// What is kept: one piece while nothing is missing, else the beginning and the end.
    fn pieces(&self) -> (Cow<'_, [u8]>, Vec<u8>) {
        let is_whole = self.total == self.held() as u64;
        if is_whole && !self.tail.is_empty() {
            let all = self.head.iter().chain(&self.tail).copied().collect();
            return (Cow::Owned(all), Vec::new());
        }
        let tail = self.tail.iter().copied().collect();
        (Cow::Borrowed(&self.head), tail)
    }

    /// What a byte takes beside its text: something if it is written as base64 too.
    fn extra(&self, form: Form, head: &[u8], tail: &[u8]) -> u8 {
        let whole = self.total == (head.len() + tail.len()) as u64;
        let is_text = is_text(head, !whole, false) && is_text(tail, false, !whole);
        if is_text || form == Form::Text { 0 } else { 2 }
    }
}

/// As much of the beginning and of the end as fits a budget.
fn cut<'a>(head: &'a [u8], tail: &'a [u8], budget: usize, extra: u8) -> (&'a [u8], &'a [u8]) {
    let front: Vec<u8> = weights(head, extra).collect();
    let back: Vec<u8> = weights(tail, extra).collect();
    let cost = |weights: &[u8]| weights.iter().copied().map(usize::from).sum::<usize>();
    if cost(&front) + cost(&back) <= budget {
        return (head, tail);
    }
    let begun = fitting(front.iter(), budget / 2);
    if tail.is_empty() {
        let ended = fitting(front.iter().rev(), budget / 2).min(head.len() - begun);
        return (&head[..begun], &head[head.len() - ended..]);
    }
    let ended = fitting(back.iter().rev(), budget / 2);
    (&head[..begun], &tail[tail.len() - ended..])
}

fn fitting<'a>(weights: impl Iterator<Item = &'a u8>, budget: usize) -> usize {
    let sums = weights.scan(0, |sum, weight| {
        *sum += usize::from(*weight);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= budget).count()
}

/// What each byte takes in a JSON string. What is no text becomes three-byte marks.
fn weights(bytes: &[u8], extra: u8) -> impl Iterator<Item = u8> + '_ {
    let plain = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0x00..0x20 | 0x7f => 6,
        _ => 1,
    };
    bytes.utf8_chunks().flat_map(move |chunk| {
        let valid = chunk.valid().as_bytes().iter().map(plain);
        valid
            .chain(chunk.invalid().iter().map(|_| 3))
            .map(move |weight| weight + extra)
    })
}

/// Whether bytes are text, except for a character that a cut has split.
fn is_text(bytes: &[u8], cut_at_end: bool, cut_at_start: bool) -> bool {
    std::str::from_utf8(unsplit(bytes, cut_at_end, cut_at_start)).is_ok()
}

/// Bytes as text. A character that a cut has split is dropped rather than shown as damage.
fn lossy(bytes: &[u8], cut_at_end: bool, cut_at_start: bool) -> String {
    String::from_utf8_lossy(unsplit(bytes, cut_at_end, cut_at_start)).into_owned()
}

/// Bytes without the parts of characters that a cut has left at their ends.
fn unsplit(bytes: &[u8], cut_at_end: bool, cut_at_start: bool) -> &[u8] {
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
    bytes
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
        let text = kept(100, &[b"Hello ", b"from ARL!\n"]).text(1_000, Form::TextAndBytes);
        assert_eq!(text.text, "Hello from ARL!\n");
        assert_eq!((text.omitted, text.bytes), (0, None));
    }

    #[test]
    fn of_long_output_the_beginning_and_the_end_are_kept_and_the_gap_is_named() {
        let mut kept = Kept::new(8);
        for _ in 0..1_000 {
            kept.push(b"0123456789");
        }
        let text = kept.text(1_000, Form::TextAndBytes);
        assert_eq!(
            text.text,
            "0123\n[... 9992 bytes left out, see outputLog ...]\n6789"
        );
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
        let text = kept(10_000, &[&[0; 5_000]]).text(1_200, Form::TextAndBytes);
        let json = serde_json::to_string(&text.text).unwrap();
        assert!(json.len() <= 1_200 + 100, "{}", json.len());
        assert!(text.omitted > 0);
    }

    #[test]
    fn a_cut_does_not_split_a_character() {
        let kept = kept(9, &["ääääääääääää".as_bytes()]);
        let text = kept.text(1_000, Form::TextAndBytes);
        assert!(!text.text.contains('\u{fffd}'), "{}", text.text);
    }

    #[test]
    fn letters_of_any_script_count_as_the_bytes_they_are() {
        let text = kept(4_000, &["字".repeat(1_000).as_bytes()]);
        assert_eq!(text.cost(Form::TextAndBytes), 3_000);
        assert_eq!(text.text(3_000, Form::TextAndBytes).omitted, 0);
    }

    #[test]
    fn shrinking_keeps_the_beginning_and_the_end() {
        let mut kept = kept(100, &[b"0123456789"]);
        kept.shrink(4);
        assert_eq!(kept.held(), 4);
        let text = kept.text(1_000, Form::TextAndBytes);
        assert_eq!(
            text.text,
            "01\n[... 6 bytes left out, see outputLog ...]\n89"
        );
        kept.shrink(0);
        assert_eq!(kept.text(1_000, Form::TextAndBytes).omitted, 10);
    }

    #[test]
    fn a_budget_cuts_the_middle_of_what_is_still_one_piece() {
        let text = kept(100, &[b"0123456789"]).text(6, Form::TextAndBytes);
        assert_eq!(
            text.text,
            "012\n[... 4 bytes left out, see outputLog ...]\n789"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_handed_over_as_they_were() {
        let text = kept(100, &[&[0xff, 0xfe, b'a']]).text(1_000, Form::TextAndBytes);
        assert_eq!(text.bytes, Some(vec![0xff, 0xfe, b'a']));
    }
}
