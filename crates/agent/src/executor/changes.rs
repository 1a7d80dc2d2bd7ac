//! Which files of the workspace a run made, changed or removed.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path};

use sandlot_api::executor::File;

/// So many files are looked at; a workspace with more says that some were left out.
const MOST_FILES: usize = 20_000;
/// Folders deeper than this are not looked into.
const DEEPEST: usize = 64;

/// What tells one state of a file from another. Its change time cannot be set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

/// The regular files of a folder at one moment, hidden ones left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    files: BTreeMap<String, Stamp>,
    /// Whether there were more than are looked at.
    pub(super) partial: bool,
}

/// What is different between two snapshots.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) changed: Vec<File>,
    pub(super) removed: Vec<String>,
    pub(super) left_out: bool,
}

impl Snapshot {
    /// Looks at everything below `folder`, following no links.
    pub(super) fn of(folder: &Path) -> Self {
        let mut snapshot = Self::default();
        snapshot.look(folder, "", 0);
        snapshot
    }

    fn look(&mut self, folder: &Path, below: &str, depth: usize) {
        // A folder that is gone or closed to us has no files that could be read.
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            // A name that is not text has no place in a URL.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let Ok(facts) = entry.metadata() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            if self.files.len() >= MOST_FILES || depth >= DEEPEST {
                self.partial = true;
                return;
            }
            let path = format!("{below}{name}");
            if facts.is_dir() {
                self.look(&entry.path(), &format!("{path}/"), depth + 1);
            } else if facts.is_file() {
                let stamp = Stamp {
                    inode: facts.ino(),
                    size: facts.len(),
                    changed: (facts.ctime(), facts.ctime_nsec()),
                    modified: (facts.mtime(), facts.mtime_nsec()),
                };
                self.files.insert(path, stamp);
            }
        }
    }

    /// What happened since `before`.
    pub(super) fn since(&self, before: &Self) -> Changes {
        let is_new = |path: &String, stamp: &Stamp| before.files.get(path) != Some(stamp);
        let gone = |path: &&String| !self.files.contains_key(*path);
        Changes {
            changed: self
                .files
                .iter()
                .filter(|(path, stamp)| is_new(path, stamp))
                .map(|(path, stamp)| file(path, stamp))
                .collect(),
            // What a look that was cut short did not see may well be there.
            removed: match self.partial {
                true => Vec::new(),
                false => before.files.keys().filter(gone).cloned().collect(),
            },
            left_out: self.partial || before.partial,
        }
    }
}

fn file(path: &str, stamp: &Stamp) -> File {
    File {
        path: path.to_owned(),
        size: stamp.size,
        modified_millis: stamp.modified.0 * 1000 + stamp.modified.1 / 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_changed_or_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("output/deep")).unwrap();
        for name in ["kept.txt", "changed.txt", "gone.txt", ".hidden"] {
            fs::write(at(name), "before").unwrap();
        }
        let before = Snapshot::of(folder.path());
        fs::write(at("changed.txt"), "after").unwrap();
        fs::write(at("output/deep/new.csv"), "1,2").unwrap();
        fs::write(at(".also-hidden"), "x").unwrap();
        fs::remove_file(at("gone.txt")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        let changes = Snapshot::of(folder.path()).since(&before);
        let changed: Vec<_> = changes
            .changed
            .iter()
            .map(|f| (f.path.as_str(), f.size))
            .collect();
        assert_eq!(changed, [("changed.txt", 5), ("output/deep/new.csv", 3)]);
        assert_eq!(changes.removed, ["gone.txt"]);
        assert!(!changes.left_out);
    }
}
