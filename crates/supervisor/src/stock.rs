//! Files and pipes that ended runs have left for those to come.
//!
//! A file system looks at every file that was deleted lately before it makes another, so a
//! supervisor that made and deleted a few for each command would spend most of its time there.
//! Blank files and idle pipes keep their place on the disk and take a new name.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde::{Deserialize, Serialize};

use crate::disk::remove;

/// How many sets of pipes are kept where runs may hand them on.
const MOST: usize = 16;

/// How many blank files are kept: about as many as the runs that are forgotten at once leave.
const BLANKS: usize = 1024;

/// What a blank file's name begins with.
const BLANK: &str = "blank.";

/// The pipes of one run: the one its keeper rings, and its output.
pub(crate) const PIPES: [&str; 3] = ["bell", "stdout", "stderr"];

/// Whose runs a supervisor has.
///
/// Pipes are handed on once nobody holds an end of them. A process that was given a mere name of
/// one cannot be seen there; as the same user it could open it again, and listen to a run that
/// has the pipe later. All of one owner's runs may do that to each other anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// All are of one owner.
    One,
    /// Of several, who must not meet: each run has pipes of its own.
    Many,
}

/// A set of pipes, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pipes(u32);

impl Pipes {
    /// Of a run that has none.
    pub(crate) fn none() -> Self {
        Self(0)
    }

    /// Where one of them is.
    pub(crate) fn path(self, runs: &Path, which: &str) -> PathBuf {
        runs.join(format!("{which}.{}", self.0))
    }

    /// Whether a file's name is that of a pipe of some set, and of which.
    fn in_file(name: &str) -> Option<Self> {
        let (which, number) = name.split_once('.')?;
        let number = number.parse().ok()?;
        PIPES.contains(&which).then_some(Self(number))
    }

    fn make(self, runs: &Path) -> io::Result<()> {
        for which in PIPES {
            let path = self.path(runs, which);
            remove(&path)?;
            mkfifo(&path, Mode::from_bits_truncate(0o600))?;
        }
        Ok(())
    }

    fn remove(self, runs: &Path) -> io::Result<()> {
        PIPES
            .iter()
            .try_for_each(|which| remove(&self.path(runs, which)))
    }

    /// Whether nobody has an end of them any more. What is written by a process of the run
    /// before must not be heard in the next.
    fn are_let_go(self, runs: &Path) -> bool {
        PIPES.iter().all(|which| is_let_go(&self.path(runs, which)))
    }
}

/// Blank files and idle pipes.
pub(crate) struct Stock {
    runs: PathBuf,
    /// How many sets of pipes are kept.
    most_pipes: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    /// By their numbers.
    blanks: Vec<u64>,
    blanks_made: u64,
    idle: Vec<Pipes>,
    sets_made: u32,
}

impl Stock {
    /// An empty stock for the runs in this folder.
    pub(crate) fn new(runs: &Path, owner: Owner) -> Self {
        Self {
            runs: runs.to_owned(),
            most_pipes: match owner {
                Owner::One => MOST,
                Owner::Many => 0,
            },
            shelf: Mutex::default(),
        }
    }

    /// An empty file at `path`, where none was.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW);
        let blank = self.shelf().blanks.pop();
        match blank {
            Some(blank) if std::fs::rename(self.blank(blank), path).is_ok() => options.open(path),
            _ => options.create_new(true).open(path),
        }
    }

    /// Takes a file that nobody needs any more; one that is already gone is as good.
    pub(crate) fn give_back(&self, path: &Path) -> io::Result<()> {
        let blank = {
            let mut shelf = self.shelf();
            shelf.blanks_made += 1;
            let has_room = shelf.blanks.len() < BLANKS;
            has_room.then_some(shelf.blanks_made)
        };
        let Some(blank) = blank else {
            return remove(path);
        };
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        // In this order a crash leaves no blank sheet of a run that is known.
        std::fs::rename(path, self.blank(blank))?;
        file.set_len(0)?;
        self.shelf().blanks.push(blank);
        Ok(())
    }

    fn blank(&self, number: u64) -> PathBuf {
        self.runs.join(format!("{BLANK}{number}"))
    }

    /// A set of pipes that nobody else has.
    pub(crate) fn pipes(&self) -> io::Result<Pipes> {
        let set = {
            let mut shelf = self.shelf();
            // A keeper that is just being forked has a copy of all ends for a moment, so a set
            // that is held now may be free soon.
            let free = shelf
                .idle
                .iter()
                .rposition(|set| set.are_let_go(&self.runs));
            if let Some(free) = free {
                return Ok(shelf.idle.swap_remove(free));
            }
            shelf.sets_made += 1;
            Pipes(shelf.sets_made)
        };
        set.make(&self.runs)?;
        Ok(set)
    }

    /// Takes the pipes of a run that has ended.
    pub(crate) fn take_back(&self, set: Pipes) -> io::Result<()> {
        if set == Pipes::none() {
            return Ok(());
        }
        let surplus = {
            let mut shelf = self.shelf();
            shelf.idle.push(set);
            let is_full = shelf.idle.len() > self.most_pipes;
            is_full.then(|| shelf.idle.remove(0))
        };
        surplus.map_or(Ok(()), |set| set.remove(&self.runs))
    }

    /// Notes that a run of an earlier supervisor has these pipes.
    pub(crate) fn are_taken(&self, set: Pipes) {
        let mut shelf = self.shelf();
        shelf.sets_made = shelf.sets_made.max(set.0);
    }

    /// Lays a first file and a first set of pipes out, for the first run not to wait for them.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let first = self.runs.join("first");
        drop(self.file(&first)?);
        self.give_back(&first)?;
        let pipes = self.pipes()?;
        self.take_back(pipes)
    }

    /// Removes everything in stock, so that nothing of what was run is left.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let (blanks, idle) = {
            let mut shelf = self.shelf();
            (
                std::mem::take(&mut shelf.blanks),
                std::mem::take(&mut shelf.idle),
            )
        };
        blanks
            .iter()
            .try_for_each(|blank| remove(&self.blank(*blank)))?;
        idle.iter().try_for_each(|set| set.remove(&self.runs))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Every change is complete before anything can panic.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file of this name is an earlier supervisor's stock: blank, or a pipe that none of
/// the runs that go has.
pub(crate) fn is_stock(name: &str, taken: &[Pipes]) -> bool {
    name.starts_with(BLANK)
        || name == "first"
        || Pipes::in_file(name).is_some_and(|set| !taken.contains(&set))
}

/// Whether nobody reads from a pipe and nobody can write to it.
fn is_let_go(path: &Path) -> bool {
    // Without a reader, a writer that does not wait is refused.
    let is_read = open_writing(path, true).is_ok();
    // Without a writer, a reader finds the end; with one it would have to wait.
    let ended = open_reading(path).is_ok_and(|end| matches!(File::from(end).read(&mut [0]), Ok(0)));
    !is_read && ended
}

/// Opens a pipe to read from, whoever writes or not.
pub(crate) fn open_reading(path: &Path) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    Ok(file.into())
}

/// Opens a pipe to write to, which somebody has to be reading from.
pub(crate) fn open_writing(path: &Path, non_blocking: bool) -> io::Result<OwnedFd> {
    let flags = libc::O_NOFOLLOW | if non_blocking { libc::O_NONBLOCK } else { 0 };
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_file_given_back_is_the_next_one_and_blank() {
        let dir = tempfile::tempdir().unwrap();
        let stock = Stock::new(dir.path(), Owner::One);
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let file = stock.file(&one).unwrap();
        file.write_all_at(b"secret", 0).unwrap();
        stock.give_back(&one).unwrap();
        let next = stock.file(&two).unwrap();
        let (before, now) = (file.metadata().unwrap(), next.metadata().unwrap());
        assert_eq!((now.ino(), now.len()), (before.ino(), 0));
        assert!(!one.exists());
        let taken = stock.file(&two);
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn only_so_much_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let stock = Stock::new(dir.path(), Owner::One);
        let sets: Vec<_> = (0..MOST + 5).map(|_| stock.pipes().unwrap()).collect();
        for set in sets {
            stock.take_back(set).unwrap();
        }
        let file = |number| dir.path().join(format!("file {number}"));
        (0..BLANKS + 5).for_each(|number| drop(stock.file(&file(number)).unwrap()));
        (0..BLANKS + 5).for_each(|number| stock.give_back(&file(number)).unwrap());
        let left = || std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left(), BLANKS + PIPES.len() * MOST);
        stock.clear().unwrap();
        assert_eq!(left(), 0);
    }

    #[test]
    fn pipes_are_not_handed_on_from_one_owner_to_another() {
        let dir = tempfile::tempdir().unwrap();
        let stock = Stock::new(dir.path(), Owner::Many);
        let set = stock.pipes().unwrap();
        stock.take_back(set).unwrap();
        assert!(!set.path(dir.path(), PIPES[1]).exists());
        assert_ne!(stock.pipes().unwrap(), set);
    }

    #[test]
    fn pipes_that_somebody_still_holds_are_not_given_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let stock = Stock::new(dir.path(), Owner::One);
        for which in PIPES {
            for reads in [true, false] {
                let set = stock.pipes().unwrap();
                let path = set.path(dir.path(), which);
                let reading = open_reading(&path).unwrap();
                let writing = open_writing(&path, true).unwrap();
                let held = if reads { reading } else { writing };
                stock.take_back(set).unwrap();
                assert_ne!(stock.pipes().unwrap(), set, "{which}, read: {reads}");
                drop(held);
            }
        }
        let set = stock.pipes().unwrap();
        stock.take_back(set).unwrap();
        assert_eq!(stock.pipes().unwrap(), set);
    }
}
