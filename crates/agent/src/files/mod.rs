//! Putting files into the workspace, and only where the caller meant and may.

mod answers;
mod patch;
mod place;
mod write;

use std::path::{Path, PathBuf};

pub(crate) use answers::Answers;
pub(crate) use patch::Diff;
pub(crate) use write::Change;

/// Where files may be put.
#[derive(Clone, Debug)]
pub(crate) struct Grounds {
    /// What relative paths start from.
    pub(crate) workspace: PathBuf,
    /// Folders that are the agent's own.
    pub(crate) reserved: Vec<PathBuf>,
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The path leads out of its base.
    #[error("{path}: leads out of {base}; give a path inside it or an absolute path")]
    Escapes { path: String, base: String },
    /// The path names no file.
    #[error("{0:?} names no file")]
    Nameless(String),
    /// The path is in a place nobody writes files to.
    #[error("{0}: files are not put there")]
    Reserved(String),
    /// The system refused.
    #[error("{path}: {error}")]
    System { path: String, error: std::io::Error },
    /// The diff is not one.
    #[error("the patch is not a unified diff: {0}")]
    NotADiff(String),
    /// The diff does not fit the file.
    #[error("{path}: the patch does not apply: {error}")]
    DoesNotApply { path: String, error: String },
    /// The diff is for something that is no file, and might keep its reader waiting for ever.
    #[error("{0}: is no regular file, so no patch applies to it")]
    NotAFile(String),
    /// The file is larger than a diff is applied to.
    #[error("{path}: is larger than the {limit} bytes that a patch is applied to; write it whole")]
    TooLarge { path: String, limit: u64 },
    /// The diff asks for something that is not done.
    #[error("{path}: {what} in a patch is not supported")]
    Unsupported { path: String, what: &'static str },
}

impl FileError {
    fn system(path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::System {
            path: path.clone(),
            error,
        }
    }
}

/// Writes whole files and applies a diff, all below `base` or at the absolute paths given.
/// Everything is checked before anything is written. Returns what was done, in order.
pub(crate) fn update(
    grounds: &Grounds,
    base: &str,
    files: impl IntoIterator<Item = (String, bytes::Bytes)>,
    diff: &Diff<'_>,
) -> Result<Vec<Change>, FileError> {
    let base = grounds.base(base);
    let mut planned = Vec::new();
    for (path, content) in files {
        planned.push((
            grounds.place(&base, &path)?,
            Change::Write {
                path,
                content,
                mode: None,
            },
        ));
    }
    if !diff.text.trim().is_empty() {
        planned.extend(patch::plan(grounds, &base, diff)?);
    }
    // In a fixed order, so that the same request does the same.
    planned.sort_by(|(_, a), (_, b)| a.path().cmp(b.path()));
    let mut done = Vec::new();
    for (place, change) in planned {
        write::apply(&place, &change)?;
        done.push(change);
    }
    Ok(done)
}

impl Grounds {
    fn base(&self, base: &str) -> PathBuf {
        self.workspace.join(base)
    }
}

#[cfg(test)]
mod tests;
