//! Folders that come and go as a whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A folder that is removed when it is dropped, unless it was moved away.
pub(crate) struct Incoming(PathBuf);

impl Incoming {
    /// A name that nobody has.
    pub(super) fn name(folder: &Path) -> PathBuf {
        folder.join(uuid::Uuid::new_v4().simple().to_string())
    }

    pub(super) fn make(folder: &Path) -> io::Result<Incoming> {
        let path = Incoming::name(folder);
        fs::create_dir(&path)?;
        Ok(Incoming(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "what was unpacked cannot be removed; it goes at the next start");
        }
    }
}

/// What is in a folder.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Removes a folder also where its owner has taken the right to do so from itself.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mut folders = vec![path.to_owned()];
            while let Some(folder) = folders.pop() {
                set_mode(&folder, 0o700)?;
                for entry in fs::read_dir(&folder)? {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        folders.push(entry.path());
                    }
                }
            }
            fs::remove_dir_all(path)
        }
        other => other,
    }
}
