//! How far each attempt is: on the disk before the next step is taken, so that an agent that
//! comes up again goes on where the last one was and does nothing twice.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sandlot_api::robot::wire::{AttemptKey, TaskReport};
use serde::{Deserialize, Serialize};

use crate::files;

/// So many attempts that are over are remembered, so that telling them again starts nothing.
const REMEMBERED: usize = 4096;

/// How far an attempt is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Entry {
    /// Which one.
    pub(crate) key: AttemptKey,
    /// What was last said of it.
    pub(crate) report: TaskReport,
    /// Its folder has what it needs.
    pub(crate) prepared: bool,
    /// What each of its templates came to when it was last written.
    pub(crate) rendered: Vec<String>,
    /// Which start of its program is the present one, from 0.
    pub(crate) start: u32,
    /// When its program was started again, as long as that counts.
    pub(crate) restarts: Vec<Timestamp>,
    /// Nothing more will happen.
    pub(crate) over: bool,
}

/// The attempts that this robot knows.
#[derive(Clone)]
pub(crate) struct Journal(PathBuf);

impl Journal {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("attempts");
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// How far an attempt is, if it ever began.
    pub(crate) fn find(&self, key: &AttemptKey) -> io::Result<Option<Entry>> {
        files::read_json(&self.path(key))
    }

    /// The last attempt at a task of this uid.
    pub(crate) fn last_of(&self, uid: &str) -> io::Result<Option<Entry>> {
        let mut last: Option<Entry> = None;
        for file in fs::read_dir(&self.0)? {
            let file = file?;
            let name = file.file_name();
            let known = name.to_str().and_then(|name| name.strip_prefix(uid));
            if !known.is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".json")) {
                continue;
            }
            let entry: Option<Entry> = files::read_json(&file.path())?;
            let entry = entry.filter(|entry| entry.key.uid == uid);
            let number = |entry: &Entry| (entry.key.generation, entry.key.attempt);
            if entry.as_ref().map(number) > last.as_ref().map(number) {
                last = entry;
            }
        }
        Ok(last)
    }

    /// Notes how far an attempt is.
    pub(crate) fn note(&self, entry: &Entry) -> io::Result<()> {
        files::replace_json(&self.path(&entry.key), entry)
    }

    /// Forgets the oldest attempts that are over when there are many.
    pub(crate) fn tidy(&self, keep: impl Fn(&AttemptKey) -> bool) -> io::Result<()> {
        let mut old = Vec::new();
        for file in fs::read_dir(&self.0)? {
            let file = file?;
            old.push((file.metadata()?.modified()?, file.path()));
        }
        let Some(surplus) = old.len().checked_sub(REMEMBERED) else {
            return Ok(());
        };
        old.sort();
        for (_, path) in old.into_iter().take(surplus) {
            let entry: Option<Entry> = files::read_json(&path)?;
            if entry.is_some_and(|entry| entry.over && !keep(&entry.key)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn path(&self, key: &AttemptKey) -> PathBuf {
        self.0.join(format!("{key}.json"))
    }
}

/// Whether an attempt's key can be part of a file's name.
pub(crate) fn is_safe(key: &AttemptKey) -> bool {
    let uid = &key.uid;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !uid.is_empty() && uid.len() <= 128 && uid.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uid: &str) -> AttemptKey {
        AttemptKey {
            uid: uid.to_owned(),
            generation: 1,
            attempt: 0,
        }
    }

    #[test]
    fn an_attempt_is_found_as_it_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert!(journal.find(&key("a")).unwrap().is_none());
        let entry = Entry {
            key: key("a"),
            start: 3,
            ..Entry::default()
        };
        journal.note(&entry).unwrap();
        assert_eq!(journal.find(&key("a")).unwrap().unwrap().start, 3);
        for (uid, attempt, start) in [("a", 10, 5), ("a", 9, 4), ("a.b", 11, 6)] {
            let key = AttemptKey {
                attempt,
                ..key(uid)
            };
            let entry = Entry {
                key,
                start,
                ..Entry::default()
            };
            journal.note(&entry).unwrap();
        }
        assert_eq!(journal.last_of("a").unwrap().unwrap().start, 5);
        assert!(journal.last_of("b").unwrap().is_none());
    }

    #[test]
    fn a_uid_cannot_lead_out_of_the_folder() {
        for uid in ["", "..", "a/b", "../../etc/passwd", "a\0b"] {
            assert!(!is_safe(&key(uid)), "{uid:?}");
        }
        assert!(is_safe(&key("0f8fad5b-d9cb-469f-a165-70867728950e")));
    }
}
