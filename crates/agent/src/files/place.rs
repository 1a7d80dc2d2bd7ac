//! From a path as written to a folder handle and a name inside it.
//!
//! A relative path stays below its base: `..` is resolved on paper, and links on disk are
//! followed only as far as they stay inside (`openat2` with RESOLVE_BENEATH, or step by step
//! where the kernel lacks it). An absolute path is meant as written; what exists of it is
//! resolved first, so that a link does not lead into the reserved places.

use std::path::{Component, Path, PathBuf};

use cap_std::{ambient_authority, fs::Dir};

use super::{FileError, Grounds};

/// Where nothing is ever put, whoever asks: the kernel's own trees.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A place for a file: a folder nobody escapes from, and a path below it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) root: Dir,
    pub(crate) below: PathBuf,
    /// The whole path, for messages.
    pub(crate) full: PathBuf,
}

impl Grounds {
    /// The place that `path` means, seen from `base`.
    pub(crate) fn place(&self, base: &Path, path: &str) -> Result<Place, FileError> {
        let written = Path::new(path);
        let full = if written.is_absolute() {
            written
        } else {
            &base.join(written)
        };
        let full = flatten(full).ok_or_else(|| escapes(path, base))?;
        if full.file_name().is_none() || path.is_empty() || path.ends_with('/') {
            return Err(FileError::Nameless(path.to_owned()));
        }
        let flat_base = flatten(base).ok_or_else(|| escapes(path, base))?;
        let root = match full.strip_prefix(&flat_base) {
            Ok(_) => self.existing_base(flat_base)?,
            Err(_) if !written.is_absolute() => return Err(escapes(path, base)),
            Err(_) => existing_ancestor(&full)?,
        };
        let below = full
            .strip_prefix(&root.0)
            .map_err(|_| escapes(path, base))?
            .to_owned();
        if below.as_os_str().is_empty() {
            return Err(FileError::Nameless(path.to_owned()));
        }
        self.check_reserved(&root.1, &below)?;
        let root = Dir::open_ambient_dir(&root.1, ambient_authority())
            .map_err(FileError::system(&root.1))?;
        Ok(Place { root, below, full })
    }

    /// The base as written and as resolved; made if it is not there.
    fn existing_base(&self, base: PathBuf) -> Result<(PathBuf, PathBuf), FileError> {
        std::fs::create_dir_all(&base).map_err(FileError::system(&base))?;
        let real = base.canonicalize().map_err(FileError::system(&base))?;
        Ok((base, real))
    }

    fn check_reserved(&self, root: &Path, below: &Path) -> Result<(), FileError> {
        let target = root.join(below);
        let kernels = KERNELS.iter().map(Path::new);
        let reserved = kernels.chain(self.reserved.iter().map(PathBuf::as_path));
        match reserved.into_iter().find(|place| target.starts_with(place)) {
            Some(_) => Err(FileError::Reserved(target.display().to_string())),
            None => Ok(()),
        }
    }
}

/// The deepest folder of an absolute path that exists, as written and as resolved.
fn existing_ancestor(path: &Path) -> Result<(PathBuf, PathBuf), FileError> {
    let mut folder = path;
    while let Some(parent) = folder.parent() {
        folder = parent;
        if let Ok(real) = folder.canonicalize() {
            return Ok((folder.to_owned(), real));
        }
    }
    Err(FileError::Nameless(path.display().to_string()))
}

/// Resolves `.` and `..` without looking at the disk; nothing if it climbs above the root.
fn flatten(path: &Path) -> Option<PathBuf> {
    let mut flat = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => flat.push(name),
            Component::ParentDir => {
                if !flat.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(flat)
}

fn escapes(path: &str, base: &Path) -> FileError {
    FileError::Escapes {
        path: path.to_owned(),
        base: base.display().to_string(),
    }
}
