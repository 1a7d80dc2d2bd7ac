//! What code returned, and what the workspace was like before it ran.
//!
//! A result travels in a file of its own, not among what the code prints: nothing that is
//! printed can be taken for one. Where much was deleted lately, making a file takes the kernel
//! longer than all the rest, so a run is given an empty one that was made ahead, or was the
//! result of a run long ago and is held by nobody, and the next one is made once nobody waits for
//! this.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::changes::{Changes, Snapshot};

/// The largest result that is handed on.
const LARGEST: u64 = 4 << 20;
/// So many results are kept for who asks again.
const KEPT: usize = 256;
/// The empty file that waits for a result; no key begins with a dot.
const AHEAD: &str = ".ahead";
/// What chooses the signal for news of a file, as the kernel numbers it.
const F_SETSIG: libc::c_int = 10;

/// The results of the last runs.
pub(crate) struct Results {
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    runs: HashMap<String, Arc<Begun>>,
    order: VecDeque<String>,
}

/// A run as it began.
#[derive(Default)]
pub(super) struct Begun {
    /// The workspace before it; nothing where this agent did not see it begin.
    before: Option<Snapshot>,
    changes: OnceLock<Changes>,
}

impl Results {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            known: Mutex::default(),
        }
    }

    /// Where the run with this key puts its result.
    pub(super) fn place(&self, key: &str) -> PathBuf {
        self.folder.join(key)
    }

    /// Notes what the workspace was like before a run that returns nothing.
    pub(super) fn begin(&self, key: &str, before: Snapshot) {
        let begun = Begun {
            before: Some(before),
            changes: OnceLock::new(),
        };
        let mut known = self.known();
        if !known.runs.contains_key(key) {
            known.runs.insert(key.to_owned(), Arc::new(begun));
            known.order.push_back(key.to_owned());
        }
    }

    /// Makes room for what a run returns.
    pub(super) fn make_room(&self, key: &str) -> io::Result<()> {
        // It is there but for the first time, and where runs begin faster than they end.
        if fs::rename(self.folder.join(AHEAD), self.place(key)).is_ok() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)
    }

    /// Forgets the oldest results, and has an empty file ready for the next one.
    pub(super) fn make_ahead(&self) -> io::Result<()> {
        let ahead = self.folder.join(AHEAD);
        while let Some(oldest) = self.forget_oldest() {
            let place = self.place(&oldest);
            if hand_on(&place, &ahead).is_err() {
                // One that returned nothing has no file.
                let _ = fs::remove_file(&place);
            }
        }
        fs::create_dir_all(&self.folder)?;
        match options().create_new(true).open(ahead) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop),
        }
    }

    /// The key of the oldest run, once there are too many.
    fn forget_oldest(&self) -> Option<String> {
        let mut known = self.known();
        if known.order.len() <= KEPT {
            return None;
        }
        let oldest = known.order.pop_front()?;
        known.runs.remove(&oldest);
        Some(oldest)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a run that is over did to the workspace; looked at once, told to all who ask.
    pub(super) fn changes(&self, key: &str, workspace: &Path) -> Changes {
        let begun = self.known().runs.get(key).cloned().unwrap_or_default();
        let look = || match &begun.before {
            Some(before) => Snapshot::of(workspace).since(before),
            // Which of the files are new is not known any more: better all than none.
            None => Snapshot::of(workspace).since(&Snapshot::default()),
        };
        begun.changes.get_or_init(look).clone()
    }

    /// What the run returned, as JSON.
    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.place(key));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut text = Vec::new();
        file.take(LARGEST + 1)
            .read_to_end(&mut text)
            .map_err(|error| error.to_string())?;
        if text.is_empty() {
            // It ended before it came to that.
            return Ok(None);
        }
        if text.len() as u64 > LARGEST {
            return Err(format!(
                "the return value is larger than {LARGEST} bytes: write it to a file instead"
            ));
        }
        match serde_json::from_slice::<serde::de::IgnoredAny>(&text) {
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(format!("the return value is not JSON: {error}")),
        }
    }
}

/// How a result's file is written to, whatever somebody put in its place.
fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// Empties the file of an old result for one to come, if it is nobody else's: what its run left
/// behind may still write to it.
fn hand_on(old: &Path, next: &Path) -> io::Result<()> {
    let file = options().open(old)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 || !is_open_here_alone(&file) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // What is ahead is empty whenever somebody takes it.
    file.set_len(0)?;
    fs::rename(old, next)
}

/// Whether nobody else has a file open: only then does the kernel lease it for writing. Where it
/// leases none, nobody knows.
fn is_open_here_alone(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // Who opens the file while it is leased has the kernel tell us so by a signal, which would end
    // us; this one is ignored unless somebody waits for it.
    // SAFETY: an open descriptor and constants.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) == 0
            && libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn begin(results: &Results, key: &str) {
        results.begin(key, Snapshot::default());
        results.make_room(key).unwrap();
    }

    #[test]
    fn a_result_is_json_of_bounded_size_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().join("results"));
        begin(&results, "a");
        assert_eq!(results.read("a"), Ok(None));
        fs::write(results.place("a"), "0").unwrap();
        assert_eq!(results.read("a"), Ok(Some(b"0".to_vec())));
        fs::write(results.place("a"), "{torn").unwrap();
        assert!(results.read("a").unwrap_err().contains("not JSON"));
        fs::write(results.place("a"), vec![b'1'; LARGEST as usize + 1]).unwrap();
        assert!(results.read("a").unwrap_err().contains("larger than"));
        fs::remove_file(results.place("a")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", results.place("a")).unwrap();
        assert!(results.read("a").is_err(), "links are not followed");
    }

    #[test]
    fn old_results_go_and_nobody_is_given_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().join("results"));
        for number in 0..KEPT * 2 {
            let key = number.to_string();
            begin(&results, &key);
            assert_eq!(results.read(&key), Ok(None), "{key}");
            fs::write(results.place(&key), &key).unwrap();
            results.make_ahead().unwrap();
        }
        assert_eq!(results.read("0"), Ok(None));
        let last = (KEPT * 2 - 1).to_string();
        assert_eq!(results.read(&last), Ok(Some(last.into_bytes())));
        let left = fs::read_dir(folder.path().join("results")).unwrap().count();
        assert!(left <= KEPT + 1, "{left}");
    }

    #[test]
    fn what_is_left_of_a_run_cannot_write_into_a_later_ones_result() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().join("results"));
        let (elsewhere, mut left) = (folder.path().join("elsewhere"), Vec::new());
        for number in 0..KEPT * 2 {
            let key = number.to_string();
            begin(&results, &key);
            assert_eq!(results.read(&key), Ok(None), "{key}");
            fs::write(results.place(&key), &key).unwrap();
            if number == 0 {
                fs::hard_link(results.place(&key), &elsewhere).unwrap();
            } else if number < 10 {
                left.push(options().open(results.place(&key)).unwrap());
            }
            results.make_ahead().unwrap();
        }
        for file in left {
            file.write_all_at(b"666", 0).unwrap();
        }
        for number in KEPT..KEPT * 2 {
            let result = number.to_string().into_bytes();
            assert_eq!(results.read(&number.to_string()), Ok(Some(result)));
        }
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), "0");
    }

    #[test]
    fn a_file_that_nobody_holds_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().to_owned());
        begin(&results, "a");
        fs::write(results.place("a"), "1").unwrap();
        let before = fs::metadata(results.place("a")).unwrap().ino();
        hand_on(&results.place("a"), &folder.path().join(AHEAD)).unwrap();
        begin(&results, "b");
        let now = fs::metadata(results.place("b")).unwrap();
        assert_eq!((now.ino(), now.len()), (before, 0));
    }

    #[test]
    fn a_link_in_place_of_the_file_made_ahead_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().join("results"));
        let precious = folder.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        fs::create_dir(folder.path().join("results")).unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join("results").join(AHEAD)).unwrap();
        results.make_ahead().unwrap();
        begin(&results, "a");
        assert!(results.read("a").is_err());
        assert_eq!(fs::read_to_string(precious).unwrap(), "kept");
    }
}
