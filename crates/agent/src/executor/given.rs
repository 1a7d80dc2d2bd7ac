//! Which code was given to which interpreter, noted before the code is given, so that an agent that
//! comes later finds what runs.

use std::{io, path::PathBuf};

use jiff::{SignedDuration, Timestamp};
use sandlot_supervisor::{End, Key, Outcome};
use serde::{Deserialize, Serialize};

use crate::notebook::{Line, Notebook, Outlasts};

/// So many notes are kept, as many as results.
const KEPT: usize = 256;

/// Code that was given to an interpreter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Given {
    /// The interpreter's own key.
    pub(super) run: Key,
    /// When it got its code; what it did before is not the code's.
    pub(super) at: Timestamp,
    /// When its time is up.
    pub(super) until: Option<Timestamp>,
}

impl Given {
    /// Whether it was ended because its time was up.
    pub(super) fn is_late(&self, outcome: &Outcome) -> bool {
        let was_stopped = matches!(outcome.end, End::Stopped { .. });
        was_stopped && self.until.is_some_and(|until| outcome.finished >= until)
    }

    /// How long the code may run.
    pub(super) fn limit(&self) -> Option<SignedDuration> {
        self.until.map(|until| until.duration_since(self.at))
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    key: String,
    given: Given,
}

impl Line for Note {
    fn key(&self) -> &str {
        &self.key
    }
}

/// The last notes of who was given what.
pub(super) struct Notes(Notebook<Note>);

impl Notes {
    /// The notes at `path`.
    pub(super) fn open(path: PathBuf) -> Self {
        Self(Notebook::open(path, KEPT, Outlasts::TheAgent))
    }

    /// What the code with this key was given to.
    pub(super) fn get(&self, key: &str) -> Option<Given> {
        self.0.get(key).map(|note| note.given.clone())
    }

    /// Notes it; the oldest notes go.
    pub(super) fn keep(&mut self, key: &str, given: Given) -> io::Result<()> {
        let key = key.to_owned();
        self.0.keep(Note { key, given })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(limit: Option<SignedDuration>) -> Given {
        let at = Timestamp::UNIX_EPOCH;
        Given {
            run: Key::new("spare").unwrap(),
            at,
            until: limit.map(|limit| at + limit),
        }
    }

    fn stopped(after: SignedDuration) -> Outcome {
        Outcome {
            end: End::Stopped { killed: true },
            reason: String::new(),
            usage: Default::default(),
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH + after,
        }
    }

    #[test]
    fn only_what_was_stopped_after_its_time_ran_out_of_it() {
        let second = SignedDuration::from_secs(1);
        assert!(given(Some(second)).is_late(&stopped(second * 2)));
        assert!(!given(Some(second * 3)).is_late(&stopped(second * 2)));
        assert!(!given(None).is_late(&stopped(second)));
    }
}
