//! Which code was given to which interpreter: one line each in one file, written before the code
//! is given, so that an agent that comes later finds what runs. To append to a file that is there
//! costs nothing beside making one.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
};

use jiff::{SignedDuration, Timestamp};
use sandlot_supervisor::{End, Key, Outcome};
use serde::{Deserialize, Serialize};

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
struct Line {
    key: String,
    given: Given,
}

/// The last notes of who was given what.
pub(super) struct Notes {
    path: PathBuf,
    /// Appended to; nothing until the first note of this life, which begins the file anew.
    file: Option<File>,
    known: HashMap<String, Given>,
    order: VecDeque<String>,
}

impl Notes {
    /// The notes at `path`. A torn line is of code that was never given.
    pub(super) fn open(path: PathBuf) -> Self {
        let mut notes = Self {
            file: None,
            known: HashMap::new(),
            order: VecDeque::new(),
            path,
        };
        if let Ok(file) = File::open(&notes.path) {
            let lines = BufReader::new(file).lines().map_while(Result::ok);
            for line in lines.filter_map(|line| serde_json::from_str::<Line>(&line).ok()) {
                notes.remember(line.key, line.given);
            }
        }
        notes
    }

    /// What the code with this key was given to.
    pub(super) fn get(&self, key: &str) -> Option<Given> {
        self.known.get(key).cloned()
    }

    /// Notes it; the oldest notes go.
    pub(super) fn keep(&mut self, key: &str, given: Given) -> io::Result<()> {
        let line = Line {
            key: key.to_owned(),
            given,
        };
        if self.order.len() >= 2 * KEPT {
            self.file = None;
        }
        match self.file.take() {
            Some(mut file) => {
                // One that is torn is not appended to: the next note begins anew.
                file.write_all(&written(&line)?)?;
                self.file = Some(file);
                self.remember(line.key, line.given);
            }
            None => {
                self.remember(line.key, line.given);
                self.begin_anew()?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, key: String, given: Given) {
        if self.known.insert(key.clone(), given).is_none() {
            self.order.push_back(key);
        }
    }

    /// Writes the last notes, whole or not at all.
    fn begin_anew(&mut self) -> io::Result<()> {
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        let mut all = Vec::new();
        for key in &self.order {
            if let Some(given) = self.get(key) {
                let key = key.clone();
                all.extend(written(&Line { key, given })?);
            }
        }
        let unfinished = self.path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&all)?;
        fs::rename(&unfinished, &self.path)?;
        self.file = Some(file);
        Ok(())
    }
}

fn written(line: &Line) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
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

    #[test]
    fn the_next_agent_knows_who_was_given_what_but_for_the_oldest_and_the_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("given");
        let mut notes = Notes::open(path.clone());
        for number in 0..KEPT * 3 {
            notes.keep(&number.to_string(), given(None)).unwrap();
        }
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"{\"key\":\"torn"))
            .unwrap();
        let mut next = Notes::open(path.clone());
        assert_eq!(next.get("0"), None);
        assert_eq!(next.get(&(KEPT * 3 - 1).to_string()), Some(given(None)));
        next.keep("after", given(None)).unwrap();
        let last = Notes::open(path);
        assert_eq!(last.get("after"), Some(given(None)));
        assert!(last.order.len() <= 2 * KEPT, "{}", last.order.len());
    }
}
