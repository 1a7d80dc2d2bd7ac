//! Applying unified diffs, as `diff -u` or `git diff` make them.

use std::{io::Read, path::Path};

use bytes::Bytes;
use cap_std::fs::{OpenOptions, OpenOptionsExt, PermissionsExt};
use diffy::patch_set::{FileMode, FileOperation, FilePatch, ParseOptions, PatchKind, PatchSet};

use super::{FileError, Grounds, place::Place, write::Change};

/// The largest file that a diff is applied to.
const LARGEST: u64 = 64 << 20;

/// A diff, and what is said of it beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Diff<'a> {
    /// The diff itself; nothing but space if there is none.
    pub(crate) text: &'a str,
    /// The file that it is for if it changes one alone: its header may know it by another name.
    pub(crate) path: Option<&'a str>,
}

/// What a diff asks for, worked out against the files as they are. Writes nothing.
pub(crate) fn plan(
    grounds: &Grounds,
    base: &Path,
    diff: &Diff<'_>,
) -> Result<Vec<(Place, Change)>, FileError> {
    let options = if diff.text.contains("diff --git ") {
        ParseOptions::gitdiff()
    } else {
        ParseOptions::unidiff()
    };
    let files = PatchSet::parse(diff.text, options)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| FileError::NotADiff(error.to_string()))?;
    let named = diff.path.filter(|_| files.len() == 1);
    let mut planned = Vec::new();
    for file in &files {
        planned.extend(plan_file(grounds, base, file, named)?);
    }
    if planned.is_empty() {
        return Err(FileError::NotADiff("it names no file to change".to_owned()));
    }
    Ok(planned)
}

fn plan_file(
    grounds: &Grounds,
    base: &Path,
    file: &FilePatch<'_, str>,
    named: Option<&str>,
) -> Result<Vec<(Place, Change)>, FileError> {
    let (from, to, keep) = paths(file.operation(), named);
    if let Some(FileMode::Symlink | FileMode::Gitlink) = file.new_mode() {
        return Err(FileError::Unsupported {
            path: name(&to, &from),
            what: "a link",
        });
    }
    let PatchKind::Text(patch) = file.patch() else {
        return Err(FileError::Unsupported {
            path: name(&to, &from),
            what: "a binary file",
        });
    };
    let modified = matches!(file.operation(), FileOperation::Modify { .. });
    if modified && patch.hunks().is_empty() && file.new_mode().is_none() {
        let what = "it has no hunk, a part that begins with @@";
        return Err(FileError::NotADiff(what.to_owned()));
    }
    let source = from
        .as_deref()
        .map(|path| grounds.place(base, path))
        .transpose()?;
    let (before, mode) = match &source {
        Some(place) => read(place)?,
        None => (String::new(), None),
    };
    let after = diffy::apply(&before, patch).map_err(|error| FileError::DoesNotApply {
        path: name(&to, &from),
        error: error.to_string(),
    })?;
    let mode = match file.new_mode() {
        Some(FileMode::Executable) => Some(0o755),
        Some(FileMode::Regular) => Some(0o644),
        _ => mode,
    };
    let mut planned = Vec::new();
    if let Some(path) = &to {
        let change = Change::Write {
            path: path.clone(),
            content: Bytes::from(after),
            mode,
        };
        planned.push((grounds.place(base, path)?, change));
    }
    if let (Some(place), Some(path)) = (source, from)
        && to.as_ref() != Some(&path)
        && !keep
    {
        planned.push((place, Change::Remove { path }));
    }
    Ok(planned)
}

/// The file a patch starts from, the one it results in, and whether the first one stays. Where a
/// file stays where it is, `named` says where that is.
fn paths(
    operation: &FileOperation<'_, str>,
    named: Option<&str>,
) -> (Option<String>, Option<String>, bool) {
    let named = named.map(str::to_owned);
    match operation {
        FileOperation::Create(_) if named.is_some() => (None, named, false),
        FileOperation::Delete(_) if named.is_some() => (named, None, false),
        FileOperation::Modify { .. } if named.is_some() => (named.clone(), named, false),
        FileOperation::Create(to) => (None, Some(stripped(to, "b/")), false),
        FileOperation::Delete(from) => (Some(stripped(from, "a/")), None, false),
        // Without the word of git, differing names are a backup's name and the file's own.
        FileOperation::Modify { original, modified } => {
            let to = if original.starts_with("a/") {
                stripped(modified, "b/")
            } else {
                modified.to_string()
            };
            (Some(to.clone()), Some(to), false)
        }
        FileOperation::Rename { from, to } => (Some(from.to_string()), Some(to.to_string()), false),
        FileOperation::Copy { from, to } => (Some(from.to_string()), Some(to.to_string()), true),
    }
}

fn stripped(path: &str, prefix: &str) -> String {
    path.strip_prefix(prefix).unwrap_or(path).to_owned()
}

fn name(to: &Option<String>, from: &Option<String>) -> String {
    to.as_ref().or(from.as_ref()).cloned().unwrap_or_default()
}

fn read(place: &Place) -> Result<(String, Option<u32>), FileError> {
    let system = FileError::system(&place.full);
    let mut options = OpenOptions::new();
    // A pipe that nobody writes to must not keep us waiting before we see that it is one.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = place.root.open_with(&place.below, &options);
    let file = file.map_err(&system)?;
    let facts = file.metadata().map_err(&system)?;
    let path = || place.full.display().to_string();
    if !facts.is_file() {
        return Err(FileError::NotAFile(path()));
    }
    if facts.len() > LARGEST {
        return Err(FileError::TooLarge {
            path: path(),
            limit: LARGEST,
        });
    }
    let mode = facts.permissions().mode() & 0o7777;
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(&system)?;
    Ok((text, Some(mode)))
}
