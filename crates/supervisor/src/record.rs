//! What is on disk about a run: a folder named after the key's hash.
//!
//! ```text
//! record.json     what was asked for
//! note            what the keeper knows; locked while the keeper lives
//! bell            a pipe the keeper rings
//! stdout, stderr  the output pipes
//! stdout.0 …      the output, in segments
//! outcome.json    how it ended
//! lost            instead of all these: it began, and a power cut took what was known of it
//! ```

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    launch::{Keep, Key, Launch, Memory},
    note::{NOTE_BYTES, Note, Stage},
    outcome::Outcome,
};

/// The largest record or outcome that is read back.
const LARGEST: u64 = 4 << 20;

/// What was asked for, as far as a later supervisor needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) key: Key,
    /// For people, and to notice a key used for two commands.
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: Option<String>,
    /// Which boot of the machine it belongs to.
    pub(crate) boot: String,
    pub(crate) memory: Memory,
    pub(crate) keep: Keep,
    pub(crate) terminal: bool,
    pub(crate) grace: Duration,
    pub(crate) timeout: Option<Duration>,
    /// When its time is up, on the clock that counts since boot.
    pub(crate) deadline: Option<Duration>,
}

impl Record {
    pub(crate) fn new(key: Key, launch: &Launch) -> io::Result<Self> {
        Ok(Self {
            key,
            argv: launch
                .argv
                .iter()
                .map(|a| a.to_string_lossy().into_owned())
                .collect(),
            cwd: launch
                .cwd
                .as_ref()
                .map(|cwd| cwd.to_string_lossy().into_owned()),
            boot: boot_id()?,
            memory: launch.memory,
            keep: launch.keep,
            terminal: launch.terminal.is_some(),
            grace: launch.grace,
            timeout: launch.timeout,
            deadline: launch
                .timeout
                .map(|timeout| since_boot().saturating_add(timeout)),
        })
    }

    /// What is left to say of a run that is lost: its key.
    pub(crate) fn lost(key: Key) -> io::Result<Self> {
        let nothing: [&str; 0] = [];
        Self::new(key, &Launch::new(nothing))
    }
}

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

/// What a run's folder is called: the beginning of its key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(pub(crate) [u8; 16]);

impl Name {
    pub(crate) fn of(key: &Key) -> Self {
        let hash = Sha256::digest(key.as_str().as_bytes());
        let mut name = [0; 16];
        name.copy_from_slice(&hash[..16]);
        Self(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder for `key` below `runs`.
    pub(crate) fn of(runs: &Path, key: &Key) -> Self {
        Self::named(runs, Name::of(key))
    }

    /// The folder of this name below `runs`.
    pub(crate) fn named(runs: &Path, name: Name) -> Self {
        Self(runs.join(name.to_string()))
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the folder with its record. That it is there after a power cut is not certain:
    /// the ledger sees to that.
    pub(crate) fn create(&self, record: &Record) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.0)?;
        self.write("record.json", record)
    }

    /// The record, if there is a whole one.
    pub(crate) fn record(&self) -> Option<Record> {
        self.read("record.json")
    }

    /// Writes down how the run ended.
    pub(crate) fn finish(&self, outcome: &Outcome) -> io::Result<()> {
        self.write("outcome.json", outcome)
    }

    /// Notes that a run of this name has begun once and that nothing else is known of it.
    pub(crate) fn mark_lost(&self) -> io::Result<()> {
        self.remove()?;
        DirBuilder::new().mode(0o700).create(&self.0)?;
        File::create(self.join("lost")).map(drop)
    }

    /// Whether that was noted.
    pub(crate) fn is_lost(&self) -> bool {
        open_plain(&self.join("lost")).is_ok()
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.read("outcome.json")
    }

    /// The note as the keeper last wrote it.
    pub(crate) fn note(&self) -> Option<Note> {
        let mut bytes = Vec::with_capacity(NOTE_BYTES);
        open_plain(&self.join("note"))
            .ok()?
            .take(NOTE_BYTES as u64)
            .read_to_end(&mut bytes)
            .ok()?;
        Note::parse(&bytes)
    }

    /// An empty note, locked for whoever inherits it.
    pub(crate) fn lock_note(&self) -> io::Result<Flock<File>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW);
        Flock::lock(
            options.open(self.join("note"))?,
            FlockArg::LockExclusiveNonblock,
        )
        .map_err(|(_, e)| e.into())
    }

    /// What became of the run.
    pub(crate) fn standing(&self, record: &Record) -> Standing {
        if let Some(outcome) = self.outcome() {
            return Standing::Over(outcome);
        }
        if boot_id().ok().as_ref() != Some(&record.boot) {
            return Standing::Lost;
        }
        if open_plain(&self.join("note")).is_ok() && self.lock_note().is_err() {
            return Standing::Alive;
        }
        match self.note() {
            None => Standing::NeverBegan,
            Some(note) if matches!(note.stage, Stage::Ended | Stage::Failed(_)) => Standing::Left,
            Some(_) => Standing::Lost,
        }
    }

    /// Removes everything about the run.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a file that is whole or not there.
    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let unfinished = self.join(&format!("{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        std::fs::rename(&unfinished, self.join(name))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let mut bytes = Vec::new();
        open_plain(&self.join(name))
            .ok()?
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Opens a file for reading without following a link or waiting on a pipe put in its place.
fn open_plain(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Makes a folder for this user alone, parents included.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Names this boot of the machine.
fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Time since the machine booted, sleep included.
pub(crate) fn since_boot() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(runs: &Path) -> (Folder, Record) {
        let key = Key::new("task/step/1").unwrap();
        let folder = Folder::of(runs, &key);
        let record = Record::new(key, &Launch::new(["true"])).unwrap();
        folder.create(&record).unwrap();
        (folder, record)
    }

    #[test]
    fn a_run_recorded_but_never_begun_may_be_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, record) = recorded(dir.path());
        assert_eq!(folder.record().as_ref(), Some(&record));
        assert!(matches!(folder.standing(&record), Standing::NeverBegan));
    }

    #[test]
    fn after_a_reboot_a_run_without_an_outcome_is_lost_and_not_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, record) = recorded(dir.path());
        let earlier = Record {
            boot: "another boot".into(),
            ..record
        };
        assert!(matches!(folder.standing(&earlier), Standing::Lost));
    }

    #[test]
    fn a_locked_note_means_the_keeper_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, record) = recorded(dir.path());
        let lock = folder.lock_note().unwrap();
        assert!(matches!(folder.standing(&record), Standing::Alive));
        drop(lock);
        assert!(matches!(folder.standing(&record), Standing::NeverBegan));
    }

    #[test]
    fn a_link_in_place_of_the_record_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, _) = recorded(dir.path());
        std::fs::rename(folder.join("record.json"), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), folder.join("record.json"))
            .unwrap();
        assert_eq!(folder.record(), None);
    }
}
