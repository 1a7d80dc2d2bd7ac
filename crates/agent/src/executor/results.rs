//! What code returned, and what the workspace was like before it ran.
//!
//! A result travels in a file of its own, not among what the code prints: nothing that is
//! printed can be taken for one.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::changes::{Changes, Snapshot};

/// The largest result that is handed on.
const LARGEST: u64 = 4 << 20;
/// So many results are kept for who asks again.
const KEPT: usize = 256;

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

    /// Notes what the workspace is like before a run, and makes room for its result.
    pub(super) fn begin(&self, key: &str, workspace: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let begun = Begun {
            before: Some(Snapshot::of(workspace)),
            changes: OnceLock::new(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.runs.contains_key(key) {
            return Ok(());
        }
        known.runs.insert(key.to_owned(), Arc::new(begun));
        known.order.push_back(key.to_owned());
        while known.order.len() > KEPT {
            let Some(oldest) = known.order.pop_front() else {
                break;
            };
            known.runs.remove(&oldest);
            // One that returned nothing has no file.
            let _ = fs::remove_file(self.place(&oldest));
        }
        Ok(())
    }

    /// What a run that is over did to the workspace; looked at once, told to all who ask.
    pub(super) fn changes(&self, key: &str, workspace: &Path) -> Changes {
        let begun = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.runs.get(key).cloned().unwrap_or_default()
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_json_of_bounded_size_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().join("results"));
        results.begin("a", folder.path()).unwrap();
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
    fn old_results_go() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::new(folder.path().join("results"));
        results.begin("first", folder.path()).unwrap();
        fs::write(results.place("first"), "1").unwrap();
        for number in 0..KEPT {
            results.begin(&number.to_string(), folder.path()).unwrap();
        }
        assert_eq!(results.read("first"), Ok(None));
    }
}
