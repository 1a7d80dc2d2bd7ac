//! Writing a file so that readers see the old one or the new one, never half of it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, Permissions, PermissionsExt};

use super::{FileError, place::Place};

/// What a new file may be done with: read by all, written by its owner.
const NEW_FILE: u32 = 0o644;

/// One change to one file.
#[derive(Debug)]
pub(crate) enum Change {
    /// The file shall be this, whether it was there or not.
    Write {
        path: String,
        content: Bytes,
        /// The mode to give it; else the one it has, else the usual one.
        mode: Option<u32>,
    },
    /// The file shall be gone.
    Remove { path: String },
}

impl Change {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Write { path, .. } | Self::Remove { path } => path,
        }
    }
}

pub(crate) fn apply(place: &Place, change: &Change) -> Result<(), FileError> {
    let done = match change {
        Change::Write { content, mode, .. } => write(&place.root, &place.below, content, *mode),
        Change::Remove { .. } => place.root.remove_file(&place.below),
    };
    done.map_err(FileError::system(&place.full))
}

fn write(root: &Dir, path: &Path, content: &[u8], mode: Option<u32>) -> io::Result<()> {
    let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    make_parents(root, parent)?;
    let mode = match root.symlink_metadata(path) {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if there.is_file() => mode.unwrap_or(there.permissions().mode() & 0o7777),
        _ => mode.unwrap_or(NEW_FILE),
    };
    let unfinished = beside(path);
    let written = write_new(root, &unfinished, content, mode)
        .and_then(|()| root.rename(&unfinished, root, path));
    if written.is_err() {
        // The half-made file is of no use to anybody.
        let _ = root.remove_file(&unfinished);
    }
    written
}

/// Makes the folders that are missing. What is there must be a folder that may be entered.
fn make_parents(root: &Dir, parent: &Path) -> io::Result<()> {
    if parent.as_os_str().is_empty() {
        return Ok(());
    }
    match root.open_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => root.create_dir_all(parent),
        other => other.map(drop),
    }
}

fn write_new(root: &Dir, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = root.open_with(path, &options)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// A name next to the file, so that it can be moved over it in one step.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".sandlot-{}-{number}.new", std::process::id()))
}
