//! Whether a container is still as it was when its agent began.
//!
//! The time of a file's last change of any kind cannot be set by anybody but the kernel, so whatever
//! has been written, replaced, renamed or removed since then shows, in the file or in its folder.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The most entries that are looked at; more than any image has that is used in a sandbox.
const MOST: usize = 1_000_000;
/// The kernel notes changes by a clock that may be this much behind.
#[cfg(test)]
const COARSE: Duration = Duration::from_millis(20);
/// What the kernel makes up as it is read.
const MADE_UP: [&str; 8] = [
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "mqueue",
    "devtmpfs",
    "securityfs",
];

/// What processes of a container can leave to each other in memory, one list for each sort.
const LEFT_IN_MEMORY: [&str; 3] = ["msg", "sem", "shm"];

/// A container as it was when its agent began.
pub(crate) struct Birth {
    /// Counted from 1970.
    at: Duration,
    mounts: Vec<u8>,
}

impl Birth {
    /// The container is complete and nobody else has been in it. What is written to `open` places
    /// from now on is no difference, nor what the kernel does for it.
    pub(crate) fn of(open: &[&Path]) -> Self {
        // The first write in a folder of the image copies it out of the image's layer, and so
        // changes the folders above it.
        open.iter().for_each(|place| write_first(place));
        Self {
            at: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
            mounts: mounts().unwrap_or_default(),
        }
    }

    /// A number that no other life of this agent has.
    pub(crate) fn number(&self) -> u128 {
        self.at.as_nanos()
    }

    /// Finds something that is not as it was, in any place outside of `spared`, and says what.
    pub(crate) fn difference(&self, spared: &[PathBuf]) -> io::Result<Option<String>> {
        let mounts = mounts()?;
        if mounts != self.mounts {
            return Ok(Some("what is mounted".to_owned()));
        }
        for sort in LEFT_IN_MEMORY {
            // Kernels without it have no such list.
            let list = fs::read_to_string(format!("/proc/sysvipc/{sort}"));
            if list.is_ok_and(|list| list.lines().count() > 1) {
                return Ok(Some(format!("what is kept in memory ({sort})")));
            }
        }
        let changed = find(&mounts, self.at, spared)?;
        Ok(changed.map(|path| path.display().to_string()))
    }
}

/// Writes for the first time in a folder. Where this user cannot, nobody will.
fn write_first(folder: &Path) {
    let passing = folder.join(format!(".sandlot-{}.first", std::process::id()));
    let made = fs::File::options()
        .write(true)
        .create_new(true)
        .open(&passing);
    if made.is_ok() {
        let _ = fs::remove_file(&passing);
    }
}

fn mounts() -> io::Result<Vec<u8>> {
    fs::read("/proc/self/mountinfo")
}

/// Finds something that has changed since then in any place that can be written to, outside of
/// `spared`.
///
/// The kernel notes changes by a clock that may be some milliseconds behind, so that one made in the
/// first of them does not show. No tenant is in a container that early, and what made the container
/// a moment before must not be taken for one.
fn find(mounts: &[u8], since: Duration, spared: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    let mut left = MOST;
    // Where something is mounted another look begins, or none.
    let mut passed: HashSet<PathBuf> = spared.iter().cloned().collect();
    passed.extend(lines(mounts).filter_map(|fields| fields.get(4).map(|at| plain(at))));
    for mount in writable(mounts) {
        if spared.iter().any(|place| mount.starts_with(place)) {
            continue;
        }
        if let Some(changed) = look(&mount, since, &passed, &mut left)? {
            return Ok(Some(changed));
        }
    }
    Ok(None)
}

/// Looks at a mounted place, whether it is a folder or a file, and passes over some in it.
fn look(
    mount: &Path,
    since: Duration,
    passed: &HashSet<PathBuf>,
    left: &mut usize,
) -> io::Result<Option<PathBuf>> {
    let mut waiting = vec![mount.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = fs::symlink_metadata(&path)?;
        *left = left
            .checked_sub(1)
            .ok_or_else(|| io::Error::other(format!("more than {MOST} files")))?;
        if changed(&found) > since {
            return Ok(Some(path));
        }
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                let below = entry?.path();
                if !passed.contains(&below) {
                    waiting.push(below);
                }
            }
        }
    }
    Ok(None)
}

fn changed(found: &fs::Metadata) -> Duration {
    let seconds = u64::try_from(found.ctime()).unwrap_or(0);
    let nanos = u32::try_from(found.ctime_nsec()).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// The mounted places that can be written to.
fn writable(mounts: &[u8]) -> Vec<PathBuf> {
    lines(mounts)
        .filter_map(|fields| {
            let dash = fields.iter().position(|field| *field == b"-")?;
            let (at, options) = (fields.get(4)?, fields.get(5)?);
            let (kind, of_all) = (fields.get(dash + 1)?, fields.get(dash + 3)?);
            let is_open = |options: &[u8]| options.split(|byte| *byte == b',').any(|o| o == b"rw");
            let kind = std::str::from_utf8(kind).ok()?;
            let counts = is_open(options) && is_open(of_all) && !MADE_UP.contains(&kind);
            counts.then(|| plain(at))
        })
        .collect()
}

/// The fields of each line.
fn lines(mounts: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = mounts.split(|byte| *byte == b'\n');
    lines.map(|line| line.split(|byte| *byte == b' ').collect())
}

/// A path as the kernel writes it, with blanks and the like as octal numbers.
fn plain(written: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, tail)) = rest.split_first() {
        let number = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match number {
            Some(byte) => {
                path.push(byte);
                rest = &tail[3..];
            }
            None => {
                path.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written_to_is_read_from_the_list_of_mounts() {
        let mounts = b"1 0 0:1 / / rw,relatime - overlay overlay rw,lowerdir=x\n\
                       2 1 0:2 / /proc rw - proc proc rw\n\
                       3 1 0:3 / /usr ro,nodev - ext4 /dev/vda rw\n\
                       4 1 0:4 / /a\\040b rw shared:7 - tmpfs tmpfs rw\n\
                       5 1 0:5 / /frozen rw - ext4 /dev/vdb ro\n";
        assert_eq!(writable(mounts), [Path::new("/"), Path::new("/a b")]);
    }

    #[test]
    fn a_change_shows_wherever_it_is_and_nothing_shows_without_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "old").unwrap();
        fs::write(dir.path().join("a/gone"), "old").unwrap();
        let now = || {
            // The kernel's slower clock notes what was done as earlier than this moment, and what
            // is done next as later.
            std::thread::sleep(2 * COARSE);
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            std::thread::sleep(2 * COARSE);
            now
        };
        let spared = HashSet::from([dir.path().join("spared")]);
        let find = |since| look(dir.path(), since, &spared, &mut 100).unwrap();
        let since = now();
        assert_eq!(find(since), None);
        fs::create_dir(dir.path().join("spared")).unwrap();
        let since = now();
        fs::write(dir.path().join("spared/file"), "new").unwrap();
        assert_eq!(find(since), None);
        fs::write(dir.path().join("a/b/file"), "new").unwrap();
        assert_eq!(find(since), Some(dir.path().join("a/b/file")));
        let since = now();
        fs::remove_file(dir.path().join("a/gone")).unwrap();
        assert_eq!(find(since), Some(dir.path().join("a")));
    }
}
