//! What is on disk about a run: its sheet, one file named after the key's hash.
//!
//! ```text
//! note       what the keeper knows, a row of numbers; the file is locked while the keeper lives
//! record     a line: what was asked for
//! outcome    a line: how it ended
//! ```
//!
//! In place of the lines stands `lost` when the run began and a power cut took what was known of
//! it. Beside the sheet lie, under its name and one of their own, the output's segments.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    disk::remove,
    launch::Key,
    note::{NOTE_BYTES, Note, Stage},
    outcome::Outcome,
    record::{Record, boot_id},
    stock::Stock,
};

/// The largest sheet that is read back.
const LARGEST: u64 = 8 << 20;
/// What stands in place of the record of a run that is lost.
const LOST: &[u8] = b"lost";

/// What became of a run that a supervisor finds on disk.
pub(crate) enum Standing {
    /// It ended.
    Over(Outcome),
    /// Its keeper is there.
    Alive,
    /// Its keeper is gone and left a note of how it ended.
    Left,
    /// It was recorded, and user code certainly never ran.
    NeverBegan,
    /// It may have run, and nobody knows.
    Lost,
}

/// What a run's sheet is called: the beginning of its key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(pub(crate) [u8; 16]);

impl Name {
    pub(crate) fn of(key: &Key) -> Self {
        let hash = Sha256::digest(key.as_str().as_bytes());
        let mut name = [0; 16];
        name.copy_from_slice(&hash[..16]);
        Self(name)
    }

    /// The name in a file's, which may say more after a dot.
    pub(crate) fn in_file(name: &str) -> Option<Self> {
        let (digits, _) = name.split_once('.').unwrap_or((name, ""));
        if digits.len() != 32 || !digits.is_ascii() {
            return None;
        }
        let mut name = [0; 16];
        for (place, pair) in name.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *place = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A run's sheet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sheet {
    runs: PathBuf,
    name: Name,
}

impl Sheet {
    /// The sheet for `key` in `runs`.
    pub(crate) fn of(runs: &Path, key: &Key) -> Self {
        Self::named(runs, Name::of(key))
    }

    /// The sheet of this name in `runs`.
    pub(crate) fn named(runs: &Path, name: Name) -> Self {
        Self {
            runs: runs.to_owned(),
            name,
        }
    }

    pub(crate) fn name(&self) -> Name {
        self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.runs.join(self.name.to_string())
    }

    /// The folder that all sheets are in.
    pub(crate) fn runs(&self) -> &Path {
        &self.runs
    }

    /// A file of the same run.
    pub(crate) fn beside(&self, what: &str) -> PathBuf {
        self.runs.join(format!("{}.{what}", self.name))
    }

    /// Writes the sheet of a run that begins. That it is there after a power cut is not certain:
    /// the ledger sees to that.
    pub(crate) fn create(&self, record: &Record, stock: &Stock) -> io::Result<()> {
        let mut bytes = vec![0; NOTE_BYTES];
        serde_json::to_writer(&mut bytes, record)?;
        bytes.push(b'\n');
        stock.file(&self.path())?.write_all_at(&bytes, 0)
    }

    /// The record, if there is a whole one.
    pub(crate) fn record(&self) -> Option<Record> {
        let bytes = self.read()?;
        let record: Record = line(&bytes, 0)?;
        // After a power cut a file may still have what it had under another name.
        (Name::of(&record.key) == self.name).then_some(record)
    }

    /// Writes down how the run ended.
    pub(crate) fn finish(&self, outcome: &Outcome) -> io::Result<()> {
        let file = open_plain(OpenOptions::new().read(true).write(true), &self.path())?;
        let mut bytes = Vec::new();
        (&file).take(LARGEST).read_to_end(&mut bytes)?;
        let record = bytes.get(NOTE_BYTES..).unwrap_or_default();
        let end = record.iter().position(|byte| *byte == b'\n');
        let at = end.ok_or(io::ErrorKind::InvalidData)? + NOTE_BYTES + 1;
        let mut line = serde_json::to_vec(outcome)?;
        line.push(b'\n');
        file.write_all_at(&line, at as u64)?;
        file.set_len((at + line.len()) as u64)
    }

    /// Notes that a run of this name has begun once and that nothing else is known of it.
    pub(crate) fn mark_lost(&self) -> io::Result<()> {
        let file = open_plain(
            OpenOptions::new().write(true).create(true).mode(0o600),
            &self.path(),
        )?;
        file.set_len(NOTE_BYTES as u64)?;
        file.write_all_at(LOST, NOTE_BYTES as u64)
    }

    /// Whether that was noted.
    pub(crate) fn is_lost(&self) -> bool {
        let bytes = self.read();
        bytes.is_some_and(|bytes| bytes.get(NOTE_BYTES..) == Some(LOST))
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        line(&self.read()?, 1)
    }

    /// The note as the keeper last wrote it.
    pub(crate) fn note(&self) -> Option<Note> {
        let file = open_plain(OpenOptions::new().read(true), &self.path()).ok()?;
        let mut bytes = [0; NOTE_BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Note::parse(&bytes)
    }

    /// The file, locked for whoever inherits it.
    pub(crate) fn lock(&self) -> io::Result<Flock<File>> {
        let file = open_plain(OpenOptions::new().read(true).write(true), &self.path())?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
    }

    /// What became of the run.
    pub(crate) fn standing(&self, record: &Record) -> Standing {
        if let Some(outcome) = self.outcome() {
            return Standing::Over(outcome);
        }
        if boot_id().ok().as_ref() != Some(&record.boot) {
            return Standing::Lost;
        }
        if self.lock().is_err() {
            return Standing::Alive;
        }
        match self.note() {
            None => Standing::NeverBegan,
            Some(note) if matches!(note.stage, Stage::Ended | Stage::Failed(_)) => Standing::Left,
            Some(_) => Standing::Lost,
        }
    }

    /// Removes the sheet. What lies beside it was removed before.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.path())
    }

    fn read(&self) -> Option<Vec<u8>> {
        let file = open_plain(OpenOptions::new().read(true), &self.path()).ok()?;
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// What a line of a sheet says. A torn one has no end and says nothing.
fn line<T: for<'de> Deserialize<'de>>(sheet: &[u8], number: usize) -> Option<T> {
    let lines = sheet
        .get(NOTE_BYTES..)?
        .split_inclusive(|byte| *byte == b'\n');
    let line = lines.into_iter().nth(number)?.strip_suffix(b"\n")?;
    serde_json::from_slice(line).ok()
}

/// Opens a file without following a link or waiting on a pipe put in its place.
fn open_plain(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{launch::Launch, outcome::End, stock::Owner, why};

    fn recorded(runs: &Path) -> (Sheet, Record) {
        let key = Key::new("task/step/1").unwrap();
        let sheet = Sheet::of(runs, &key);
        let stock = Stock::new(runs, Owner::One);
        let record = Record::new(key, &Launch::new(["true"])).unwrap();
        sheet.create(&record, &stock).unwrap();
        (sheet, record)
    }

    #[test]
    fn a_run_recorded_but_never_begun_may_be_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let (sheet, record) = recorded(dir.path());
        assert_eq!(sheet.record().as_ref(), Some(&record));
        assert!(matches!(sheet.standing(&record), Standing::NeverBegan));
    }

    #[test]
    fn after_a_reboot_a_run_without_an_outcome_is_lost_and_not_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let (sheet, record) = recorded(dir.path());
        let earlier = Record {
            boot: "another boot".into(),
            ..record
        };
        assert!(matches!(sheet.standing(&earlier), Standing::Lost));
    }

    #[test]
    fn a_locked_sheet_means_the_keeper_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (sheet, record) = recorded(dir.path());
        let lock = sheet.lock().unwrap();
        assert!(matches!(sheet.standing(&record), Standing::Alive));
        drop(lock);
        assert!(matches!(sheet.standing(&record), Standing::NeverBegan));
    }

    #[test]
    fn how_it_ended_is_read_back_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (sheet, record) = recorded(dir.path());
        let before = std::fs::read(sheet.path()).unwrap();
        let outcome = why::outcome(&record, End::Exited(3), None, jiff::Timestamp::now());
        sheet.finish(&outcome).unwrap();
        assert_eq!(sheet.outcome(), Some(outcome.clone()));
        let whole = std::fs::read(sheet.path()).unwrap();
        for length in before.len()..whole.len() {
            std::fs::write(sheet.path(), &whole[..length]).unwrap();
            assert_eq!(sheet.outcome(), None, "{length} bytes");
            assert_eq!(sheet.record().as_ref(), Some(&record), "{length} bytes");
        }
        sheet.finish(&outcome).unwrap();
        assert_eq!(sheet.outcome(), Some(outcome));
    }

    #[test]
    fn a_record_under_another_runs_name_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (sheet, _) = recorded(dir.path());
        let other = Sheet::of(dir.path(), &Key::new("another").unwrap());
        std::fs::rename(sheet.path(), other.path()).unwrap();
        assert_eq!(other.record(), None);
        assert_eq!(Name::in_file(&other.name().to_string()), Some(other.name()));
    }

    #[test]
    fn a_link_in_place_of_the_sheet_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (sheet, _) = recorded(dir.path());
        std::fs::rename(sheet.path(), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), sheet.path()).unwrap();
        assert_eq!(sheet.record(), None);
    }
}
