//! Pods that were made and of which no event has told yet: one event tells of all that were made
//! between two writes of a status.

use std::sync::Arc;

/// Pods that were made and of which no event has told yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    count: usize,
    last: Option<Arc<str>>,
}

impl Made {
    /// Another one was made.
    pub(crate) fn note(&mut self, pod: Arc<str>) {
        self.count += 1;
        self.last = Some(pod);
    }

    /// What there is to tell, once.
    pub(crate) fn tell(&mut self) -> Option<String> {
        let Self { count, last } = std::mem::take(self);
        let last = last?;
        Some(match count {
            1 => format!("created pod {last}"),
            _ => format!("created {count} pods, pod {last} the last"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_told_once_and_together() {
        let mut made = Made::default();
        assert_eq!(made.tell(), None);
        made.note("a".into());
        assert_eq!(made.tell().as_deref(), Some("created pod a"));
        made.note("b".into());
        made.note("c".into());
        assert_eq!(
            made.tell().as_deref(),
            Some("created 2 pods, pod c the last")
        );
        assert_eq!(made.tell(), None);
    }
}
