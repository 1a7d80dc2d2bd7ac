//! Removing folders that a pod has filled as it liked: with folders in folders so deep that
//! no path names them and no stack holds them, or closed to their own owner.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Removes a folder and all that is in it; one that is already gone is as good.
///
/// Every folder below is brought up to the top before it is emptied, so that nothing is ever
/// deeper than two steps.
pub(crate) fn remove_all(top: &Path) -> io::Result<()> {
    let mut names = 0u64;
    while !gone(fs::remove_dir(top))? {
        open(top);
        let mut some = false;
        for entry in entries(top)? {
            some = true;
            if let Some(folder) = take_away(&entry)? {
                empty(&folder, top, &mut names)?;
            }
        }
        // What others put there meanwhile is removed as well, unless it cannot be seen.
        if !some && top.exists() {
            fs::remove_dir(top)?;
        }
    }
    Ok(())
}

/// Brings a folder's folders up and removes the rest and itself.
fn empty(folder: &Path, top: &Path, names: &mut u64) -> io::Result<()> {
    open(folder);
    for entry in entries(folder)? {
        if let Some(inner) = take_away(&entry)? {
            bring_up(&inner, top, names)?;
        }
    }
    // Whoever was just leaving may still have made something: the next round finds it.
    gone(fs::remove_dir(folder)).map(|_| ())
}

fn bring_up(folder: &Path, top: &Path, names: &mut u64) -> io::Result<()> {
    loop {
        *names += 1;
        let free = top.join(format!(".removed-{names}"));
        match fs::rename(folder, &free) {
            // The pod has thought of the same name.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
                ) => {}
            // Only its owner may move a folder that is closed, once it is open.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open(folder);
                return fs::rename(folder, &free);
            }
            done => return gone(done).map(|_| ()),
        }
    }
}

/// Removes what is no folder; a folder is the answer.
fn take_away(entry: &fs::DirEntry) -> io::Result<Option<PathBuf>> {
    if entry.file_type()?.is_dir() {
        return Ok(Some(entry.path()));
    }
    gone(fs::remove_file(entry.path())).map(|_| None)
}

fn entries(folder: &Path) -> io::Result<impl Iterator<Item = fs::DirEntry>> {
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found?),
    };
    Ok(found.into_iter().flatten().flatten())
}

/// Overlays leave folders closed to their own owner, and so may pods. That it cannot be
/// opened shows when it is looked into.
fn open(folder: &Path) {
    if let Ok(found) = fs::symlink_metadata(folder)
        && found.is_dir()
        && found.permissions().mode() & 0o700 != 0o700
    {
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    }
}

/// Whether something is gone, by us or by others.
fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{AT_FDCWD, OFlag, openat};
    use nix::sys::stat::{Mode, mkdirat};

    /// Folders in folders, deeper than any path reaches.
    fn nest(at: &Path, name: &str, depth: usize) {
        let folder = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut here = openat(AT_FDCWD, at, folder, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&here, name, Mode::S_IRWXU).unwrap();
            here = openat(&here, name, folder, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn no_depth_is_too_deep() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        nest(&top, &"n".repeat(200), 300);
        nest(&top, "d", 3_000);
        remove_all(&top).unwrap();
        assert!(!top.exists());
        remove_all(&top).unwrap();
    }

    #[test]
    fn names_that_were_thought_of_closed_folders_and_links_do_not_hinder() {
        let dir = tempfile::tempdir().unwrap();
        let (top, other) = (dir.path().join("top"), dir.path().join("other"));
        for name in ["a/b/c", ".removed-1/x", ".removed-2", "closed/in/it"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        fs::write(top.join(".removed-3"), "").unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(&other, top.join("a/link")).unwrap();
        fs::set_permissions(top.join("closed/in"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        remove_all(&top).unwrap();
        assert!(!top.exists());
        assert!(other.join("kept").exists());
    }
}
