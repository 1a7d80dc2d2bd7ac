//! Files that are there whole or not at all, whenever the power goes.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, lchown},
    path::Path,
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

/// Replaces a file by another that is on the disk when this returns. Only this user can read it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&fresh, path)?;
    sync_folder(path)
}

/// The same with a value, as JSON.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?)
}

/// The same, while other things go on.
pub(crate) async fn keep_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let (path, content) = (path.to_owned(), serde_json::to_vec(value)?);
    aside(move || replace(&path, &content)).await
}

/// Does something that waits for the disk, while other things go on.
pub(crate) async fn aside<T: Send + 'static>(
    what: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(what)
        .await
        .map_err(io::Error::other)?
}

/// Reads a value that may not be there. One that cannot be read is moved aside, and counts as
/// not there: a robot must come up again whatever its disk has done.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&content) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "a file cannot be read; it is moved aside");
            fs::rename(path, path.with_extension("unreadable"))?;
            Ok(None)
        }
    }
}

/// Removes the oldest things of a folder, but so many and those that are young.
pub(crate) fn keep_newest(
    folder: &Path,
    most: usize,
    young: Duration,
    remove: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        found.push((entry.metadata()?.modified()?, entry.path()));
    }
    let Some(surplus) = found.len().checked_sub(most) else {
        return Ok(());
    };
    found.sort();
    let now = SystemTime::now();
    // A clock that was set back makes everything young; then it stays for a while longer.
    let old = |then: SystemTime| now.duration_since(then).is_ok_and(|age| age >= young);
    for (then, path) in found.into_iter().take(surplus) {
        if old(then) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Makes a folder, with all that was put there for a task, the task's own. Once: afterwards what is
/// in there is the task's doing.
pub(crate) fn give(folder: &Path, user: u32, group: u32) -> io::Result<()> {
    if fs::symlink_metadata(folder)?.uid() == user {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), user, group)?;
        } else {
            lchown(entry.path(), Some(user), Some(group))?;
        }
    }
    // Last, so that one that was given half is given again.
    lchown(folder, Some(user), Some(group))
}

/// Makes what happened to the names in a file's folder last.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_too_much_goes() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3600);
        for age in 0..6u32 {
            let path = folder.path().join(age.to_string());
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - hour * age).unwrap();
        }
        let names = || {
            let all = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = all.map(|one| one.unwrap().file_name()).collect();
            names.sort();
            names
        };
        keep_newest(folder.path(), 6, Duration::ZERO, |path| {
            fs::remove_file(path)
        })
        .unwrap();
        assert_eq!(names().len(), 6);
        let young = hour * 4 + hour / 2;
        keep_newest(folder.path(), 2, young, |path| fs::remove_file(path)).unwrap();
        assert_eq!(names(), ["0", "1", "2", "3", "4"]);
        keep_newest(folder.path(), 2, Duration::ZERO, |path| {
            fs::remove_file(path)
        })
        .unwrap();
        assert_eq!(names(), ["0", "1"]);
    }
}
