//! The ledger: the names of runs that have begun, on the disk before any of their code can run.
//!
//! It is one file of fixed places that are written where they are, so a start waits for one
//! small write and no file's shape. A power cut may take what else is known of a run;
//! what stands here and is not known otherwise is lost, and does not begin a second time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};

use crate::sheet::{Name, Sheet};

/// A name, and a check that tells it from a torn write or an empty place.
const PLACE: usize = 32;
/// How many new names a ledger has room for before it is written anew.
const ROOM: usize = 1024;
/// The largest ledger that is read.
const LARGEST: u64 = 16 << 20;

/// The names of runs that have begun.
pub(crate) struct Ledger {
    folder: PathBuf,
    /// Where the runs' sheets are: a name without one has been forgotten.
    runs: PathBuf,
    book: Mutex<Book>,
}

struct Book {
    file: Arc<File>,
    next: u64,
    places: u64,
}

/// Where a name stands.
pub(crate) struct Place {
    file: Arc<File>,
    at: u64,
}

impl Ledger {
    /// The ledger in `folder`, and the names in it.
    pub(crate) fn open(folder: &Path, runs: &Path) -> io::Result<(Self, Vec<Name>)> {
        let names = read(&folder.join("ledger"))?;
        let ledger = Self {
            folder: folder.to_owned(),
            runs: runs.to_owned(),
            book: Mutex::new(begin(folder, &names)?),
        };
        Ok((ledger, names))
    }

    /// Puts a name down, in a place that nobody has had and in a new ledger when the old one is
    /// full. It is on the disk when the place is [settled](Place::settle).
    pub(crate) fn write(&self, name: Name) -> io::Result<Place> {
        let mut book = self.lock();
        if book.next == book.places {
            let mut names = read(&self.folder.join("ledger"))?;
            names.retain(|name| Sheet::named(&self.runs, *name).path().exists());
            *book = begin(&self.folder, &names)?;
        }
        let at = book.next * PLACE as u64;
        book.file.write_all_at(&entry(name), at)?;
        book.next += 1;
        Ok(Place {
            file: book.file.clone(),
            at,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Every change is complete before anything can panic.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until the name is on the disk. Others put theirs down meanwhile.
    pub(crate) fn settle(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes the name back: nothing began.
    pub(crate) fn strike(&self) -> io::Result<()> {
        self.file.write_all_at(&[0; PLACE], self.at)
    }
}

fn entry(name: Name) -> [u8; PLACE] {
    let mut entry = [0; PLACE];
    entry[..16].copy_from_slice(&name.0);
    entry[16..].copy_from_slice(&Sha256::digest(name.0)[..16]);
    entry
}

/// The names in a ledger, as far as they are whole.
fn read(path: &Path) -> io::Result<Vec<Name>> {
    let mut bytes = Vec::new();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file.take(LARGEST).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let names = bytes.chunks_exact(PLACE).filter_map(|place| {
        let name = Name(place[..16].try_into().ok()?);
        (entry(name) == place).then_some(name)
    });
    Ok(names.collect())
}

/// Writes a new ledger with these names and room for more, whole or not at all.
fn begin(folder: &Path, names: &[Name]) -> io::Result<Book> {
    let unfinished = folder.join("ledger.new");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&unfinished)?;
    let mut bytes: Vec<u8> = names.iter().flat_map(|name| entry(*name)).collect();
    // Real zeros: a place that is on the disk already is written without anything else.
    bytes.resize(bytes.len() + ROOM * PLACE, 0);
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, folder.join("ledger"))?;
    File::open(folder)?.sync_all()?;
    Ok(Book {
        file: Arc::new(file),
        next: names.len() as u64,
        places: (names.len() + ROOM) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Key;

    fn name(number: usize) -> Name {
        Name::of(&Key::new(format!("run {number}")).unwrap())
    }

    #[test]
    fn what_was_put_down_is_read_by_the_next_and_what_was_struck_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, before) = Ledger::open(dir.path(), dir.path()).unwrap();
        assert_eq!(before, []);
        ledger.write(name(1)).unwrap();
        ledger.write(name(2)).unwrap().strike().unwrap();
        ledger.write(name(3)).unwrap();
        drop(ledger);
        let (_, names) = Ledger::open(dir.path(), dir.path()).unwrap();
        assert_eq!(names, [name(1), name(3)]);
    }

    #[test]
    fn a_torn_place_is_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, _) = Ledger::open(dir.path(), dir.path()).unwrap();
        let place = ledger.write(name(1)).unwrap();
        ledger.write(name(2)).unwrap();
        place.file.write_all_at(&[7; 5], place.at + 14).unwrap();
        let (_, names) = Ledger::open(dir.path(), dir.path()).unwrap();
        assert_eq!(names, [name(2)]);
    }

    #[test]
    fn a_full_ledger_keeps_only_the_names_of_runs_that_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        let (ledger, _) = Ledger::open(dir.path(), &runs).unwrap();
        std::fs::create_dir_all(&runs).unwrap();
        Sheet::named(&runs, name(5)).mark_lost().unwrap();
        for number in 0..=ROOM {
            ledger.write(name(number)).unwrap();
        }
        let (_, names) = Ledger::open(dir.path(), &runs).unwrap();
        assert_eq!(names, [name(5), name(ROOM)]);
    }
}
